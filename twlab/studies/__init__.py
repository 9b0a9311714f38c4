"""Measurements over many trials: sweep, ceiling, alternatives, compare.

- `sweep`: a grid of settings.
- `ceiling`: the highest rate of connections that ports sustain.
- `alternatives`: the ways out of port exhaustion, measured.
- `compare`: the same scenarios on several kernels.
- `batch`: arms spread over several guests.
"""
