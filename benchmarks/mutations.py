"""10,000 damaged captures, each read by `twlab observe`: no traceback, and bounded memory.

    .venv/bin/python benchmarks/mutations.py [FILES] [FIRST_SEED]

Half of them are pcap, half pcapng; the damage is made by seed (tests/support/mutations.py). Counted is
how often a fault was said, how often a file was refused, and how many frames were read before the
fault. Memory is that of reading the whole file, and what one more batch may take.
"""

from __future__ import annotations

import io
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from mutations import of_capture  # noqa: E402
from planted import Plan, pcap, pcapng  # noqa: E402

from twlab.errors import LabError  # noqa: E402
from twlab.observe.reading import observe  # noqa: E402

PLAN = Plan(tuples=6, windows=1, window_s=20.0, copies=0.05)
MOST_MORE_MB = 100


def resident_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    seen: Counter[str] = Counter()
    began, before_mb = time.process_time(), 0.0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "capture"
        for form, write in (("pcap", pcap), ("pcapng", pcapng)):
            whole = io.BytesIO()
            write(PLAN, whole.write)
            for seed in range(first - 1, first + files // 2):  # the first one whole, to know the memory
                path.write_bytes(
                    of_capture(whole.getvalue(), random.Random(seed)) if seed >= first else whole.getvalue()
                )
                try:
                    found = observe([str(path)], batch=1 << 14, keep=1 << 14)
                except LabError:
                    seen["refused"] += 1
                except Exception:
                    seen["tracebacks"] += 1
                    print(f"{form}, seed {seed}:")
                    traceback.print_exc()
                else:
                    seen["with a fault that was said" if found.faults else "read to the end"] += 1
                    seen["frames"] += found.frames
                before_mb = before_mb or resident_mb()
    grown_mb = resident_mb() - before_mb
    for what in ("read to the end", "with a fault that was said", "refused", "tracebacks", "frames"):
        print(f"{seen[what]:>10,} {what}")
    cpu_s = time.process_time() - began
    print(f"{cpu_s:.0f} s CPU; memory grew by {grown_mb:.0f} MB, at most {MOST_MORE_MB} is asked for")
    sys.exit(bool(seen["tracebacks"]) or grown_mb > MOST_MORE_MB)


if __name__ == "__main__":
    main()
