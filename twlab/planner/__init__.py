"""Arithmetic on ports, rates and TIME_WAIT. No input or output.

- `demand`: the load, and the ports and four-tuples there are for it.
- `ways`: names and texts of the ways out; the figures of one.
- `plan`: from a demand to the ways out, each with the rate that it sustains.
- `advice`: the recommendation that follows from a plan.
- `shortage`, `syn_schedule`: what scenarios predict for other sizes from.
- `hazards`: the risks of each way out, with the scenario that shows each.
"""
