"""A grid of settings, and what each cell of it does to connections.

- `table`: the grid, its results, and the file that keeps them.
- `fill`: plans the grid and has the missing cells carried out.
- `driver`, `agent`: the process that boots guests, and what runs in them.
"""
