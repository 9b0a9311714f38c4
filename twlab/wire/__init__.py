"""Holds, copies, delays, drops, injects and captures segments on their way.

- `wire`: the router where all that is done.
- `rules`: what each verb arms; `impairments`: what a rule does to a segment.
- `craft`: makes segments; `raw_endpoint`: a TCP endpoint without a kernel.
- `sender`: puts packets onto a link.
- `capture`, `merging`: what crossed, as pcapng.
- `canary`: shows that the lab sees what crosses.
"""
