"""Arithmetic on ports, rates and TIME_WAIT. No input or output.

- `plan`: from a demand to the ways out, each with the rate that it sustains.
- `advice`: the recommendation that follows from a plan.
- `hazards`: the risks of each way out, with the scenario that shows each.
"""
