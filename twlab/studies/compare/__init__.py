"""The same scenarios on several kernels side by side, or in two worlds.

- `columns`: what is compared.
- `differences`: the facts that differ, and how each is decided. Pure.
- `draws`: the statistical test behind it. Pure.
- `measure`: the runs, kept as they come.
- `driver`: carries out the runs of one boot.
"""
