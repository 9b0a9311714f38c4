"""A running lab, and the evidence that it collects.

- `lab`: the object passed to a scenario's steps.
- `assembly`: builds network, settings, wire and lab for one arm.
- `socket_counts`: TCP and TIME_WAIT sockets over time.
"""
