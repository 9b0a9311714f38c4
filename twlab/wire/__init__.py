"""What happens to segments on their way.

- `wire`: the router where segments are held, copied, delayed, dropped and injected.
- `rules`: what each verb arms; `impairments`: what a rule does to a segment.
- `craft`: makes segments; `raw_endpoint`: a TCP endpoint without a kernel.
- `sender`: puts packets onto a link.
- `capture`, `merging`: what crossed, as pcapng.
- `canary`: shows that the lab sees what crosses.
"""
