"""The link that every segment of interest crosses: watch, hold, copy, drop, inject.

- `wire`: the verbs of a scenario, and the rules that they arm.
- `impairments`: what a rule does to a segment.
- `sender`: sends released, copied and injected segments over AF_PACKET.
- `craft`: makes segments with Scapy.
- `raw_endpoint`: a TCP endpoint that no kernel answers for.
- `capture`: records every node's interfaces.
"""
