"""A grid of settings, and the outcome of each cell.

- `table`: the grid and its outcomes, as JSON and CSV.
- `fill`: runs the missing cells; also the driver of one guest.
- `agent`: runs cells inside the guest.
"""
