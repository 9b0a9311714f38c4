"""Measurements over many trials: sweep, ceiling, alternatives.

- `sweep`: a grid of settings.
- `ceiling`: the highest rate of connections that ports sustain.
- `alternatives`: the ways out of port exhaustion, measured.
- `batch`: arms spread over several guests.
"""
