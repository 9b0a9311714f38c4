"""The highest rate of new connections that ports and TIME_WAIT sustain.

- `cases`: the rows to measure, and their theory.
- `search`: finds each row's rate; also the driver and the agent of a guest.
"""
