"""The ways out of port exhaustion, measured side by side.

- `table`: the rows, and how they are measured.
- `scenario`: the load that each way has to sustain.
- `harm`: the scenarios that do harm under a way.
- `page`: the table in words.
"""
