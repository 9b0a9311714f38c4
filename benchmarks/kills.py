"""Kills `twlab serve`, its lab kernels and browsers with SIGKILL at random moments; looks what is left.

    .venv/bin/python benchmarks/kills.py [ROUNDS] [SEED]

ROUNDS (default 50), the three in turns: an order is given, and up to two seconds later the victim
is killed. Checked each time: no process is left. After the server's end: the folders of its workers
are empty once it is up again; every run that was shown comes from the store; the class, its student
and the prediction are there. After a guest's: its run says that it was lost, or was made before;
the next run is sound. After a browser's: its run was made all the same. It ends at the first fault.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent / "tests"), str(Path(__file__).parent.parent / "tests" / "support")]
from killing import Campaign  # noqa: E402
from serving import place  # noqa: E402


def main() -> None:
    rounds, seed = (int(text) for text in (*sys.argv[1:3], *("50", "18")[len(sys.argv) - 1 :]))
    began_s = time.monotonic()
    with place() as folder:
        Campaign(folder, seed).run(rounds, lambda text: print(text, flush=True))
    print(f"{rounds} kills in {time.monotonic() - began_s:.0f} s: nothing left behind, nothing kept was lost")


if __name__ == "__main__":
    main()
