"""Trials a second: the four kinds of cell, on as many lab kernels as there are processors, against
the aim of 1,000 a second.

python benchmarks/sweep.py [TRIALS]
"""

import os
import resource
import sys

from twlab.loop import monotonic_s
from twlab.studies.sweep.fill import fill
from twlab.studies.sweep.table import SweepTable, cells

AIM = 1000  # trials a second of wall time

trials = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
grid = cells(("time_wait_s=1,10", "delay_s=0.5,20"))
table = SweepTable("stale-segment", trials, 1)
began_s = monotonic_s()
fill(table, "stale-segment", grid, jobs=os.cpu_count() or 1, on_cell=lambda cell: None)
took_s = monotonic_s() - began_s
used = resource.getrusage(resource.RUSAGE_CHILDREN)
done = len(table.done) * trials
print(
    f"{done} trials in {took_s:.1f} s, load {os.getloadavg()[0]:.1f}: {done / took_s:.0f} a second, "
    f"{done / took_s / AIM:.2f} of the aim"
)
print(f"{(used.ru_utime + used.ru_stime) / max(done, 1) * 1000:.2f} ms of a processor for each")
