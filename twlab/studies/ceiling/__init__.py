"""The highest rate of new connections that ports and TIME_WAIT sustain.

- `cases`: the rows to measure, their theory, and the files of the table.
- `fill`: has the missing rows measured.
- `driver`, `agent`: the process that boots a guest, and what runs in it.
- `search`: finds a row's rate, in the guest.
"""
