"""What a run leaves on disk, and how it is read again.

- `result`: ``result.json``: verdicts, arms, evidence, versions.
- `transcript`: the numbered steps and facts of an arm.
- `pcapng`: the capture, with a comment on each packet that the lab touched.
"""
