"""Trials a second of wall time: the four kinds of cell, on as many lab kernels as there are processors.

    python benchmarks/sweep.py [TRIALS]
"""

import os
import sys

from twlab.loop import monotonic_s
from twlab.sweep import Table, cells
from twlab.sweeping import fill

trials = int(sys.argv[1]) if len(sys.argv) > 1 else 100
grid = cells(("time_wait_s=1,10", "delay_s=0.5,20"))
table = Table("stale-segment", trials, 1)
began_s = monotonic_s()
fill(table, "stale-segment", grid, jobs=os.cpu_count() or 1, arm="treatment", on_cell=lambda cell: None)
took_s = monotonic_s() - began_s
print(f"{len(table.done) * trials} trials in {took_s:.1f} s: {len(table.done) * trials / took_s:.0f} a second")
