"""Runs of this checkout beside those of another one: processor time and wall time, interleaved,
medians.

    .venv/bin/python benchmarks/builds.py PATH/TO/OTHER/CHECKOUT [-n 5] [--kernel PATH] [NAME ...]

Without names every command is measured, each of these n times in turn, first here and then there,
so that what else the machine does falls on both alike. The other checkout needs its own .venv
(setup/install.sh there). Each takes the lab kernel that it would take; --kernel names one for both.
Give the machine nothing else to do: a ratio is printed with the least and the most of the single
ratios.

Needs root: processor time is that of a control group, because a lab kernel does not wait for the
processes of its guest.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    "stale-data": ["run", "stale-data", "--no-report", "--out", "runs"],
    "all": ["run", "--all", "--no-report", "--out", "runs"],
    "sweep": [
        "sweep",
        "stale-segment",
        "--grid",
        "time_wait_s=1,10",
        "--grid",
        "delay_s=0.5,20",
        "--trials",
        "250",
        "--out",
        "sweep.json",
    ],
    "ceiling": ["ceiling", "--time-wait", "10", "--out", "ceiling"],
}


# Where a control group can be made, the file in it that counts processor time, and the units of
# that in a second.
COUNTERS = (("cpuacct", "cpuacct.usage", 10**9), ("unified", "cpu.stat", 10**6), ("", "cpu.stat", 10**6))


class Counted:
    """A control group whose processor time is counted."""

    def __init__(self) -> None:
        for place, file, self.per_s in COUNTERS:
            self.folder = Path("/sys/fs/cgroup", place, f"twlab-builds-{os.getpid()}")
            self.file = self.folder / file
            if (self.folder.parent / "cgroup.procs").exists():
                self.folder.mkdir()
                return
        sys.exit("no control groups below /sys/fs/cgroup")

    def enter(self) -> None:
        """Put this process into it."""
        (self.folder / "cgroup.procs").write_text("0")

    def used_s(self) -> float:
        """Seconds of processor time used in it up to now."""
        words = self.file.read_text().split()
        return int(words[-1] if len(words) == 1 else words[words.index("usage_usec") + 1]) / self.per_s

    def close(self) -> None:
        """Remove it; everything in it has ended."""
        self.folder.rmdir()


def measured(checkout: Path, words: list[str], kernel: str) -> tuple[float, float]:
    """Processor time, with that of every process beneath, and wall time of one command of
    `checkout`, in seconds.
    """
    environment = {**os.environ, **({"TWLAB_KERNEL": kernel} if kernel else {})}
    folder, group = tempfile.mkdtemp(prefix="twlab-builds-"), Counted()
    try:
        began_s = time.monotonic()
        command = [checkout / ".venv" / "bin" / "twlab", *words]
        finished = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, preexec_fn=group.enter
        )
        wall_s, cpu_s = time.monotonic() - began_s, group.used_s()
    finally:
        shutil.rmtree(folder)
        group.close()
    if finished.returncode:
        sys.exit(f"{' '.join(words)} in {checkout} ended with status {finished.returncode}:\n{finished.stderr[-2000:]}")
    return cpu_s, wall_s


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="another checkout of twlab, set up")
    parser.add_argument("names", nargs="*", choices=[[], *COMMANDS], help=f"of {', '.join(COMMANDS)}")
    parser.add_argument("-n", type=int, default=5, help="how often each is run on either side")
    parser.add_argument("--kernel", default="", help="path of a lab kernel, for both")
    arguments = parser.parse_args()
    other = arguments.other.resolve()
    if not (other / ".venv" / "bin" / "twlab").exists():
        parser.error(f"{other} is no checkout that is set up: run setup/install.sh there")
    print(f"{'':12}{'CPU there':>11}{'here':>9}{'ratio':>22}{'wall there':>12}{'here':>9}{'ratio':>22}", flush=True)
    for name in arguments.names or COMMANDS:
        rounds = [
            [measured(checkout, COMMANDS[name], arguments.kernel) for checkout in (ROOT, other)]
            for _ in range(arguments.n)
        ]
        line = f"{name:12}"
        for which, width in ((0, 11), (1, 12)):
            here, there = ([one[side][which] for one in rounds] for side in (0, 1))
            ratios = [mine / theirs for mine, theirs in zip(here, there, strict=True)]
            spread = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            line += f"{statistics.median(there):>{width - 2}.2f} s{statistics.median(here):>7.2f} s{spread:>22}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
