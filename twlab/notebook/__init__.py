"""Runs, sweeps, plans and captures in Python, as objects that show themselves.

In Jupyter an object appears as a page's section, in light and dark; elsewhere it prints as text.

- `functions`: `twlab.run`, `open`, `sweep`, `plan`, `observe`.
- `runs`: a run, its arms, their packets, ladders and plots.
- `studies`: a sweep, a plan, observed captures.
- `shown`: the base of all of them.
- `progress`: a progress bar in a notebook or on a terminal.
- `frames`: tables, as pandas DataFrames where pandas is installed.
"""
