"""What a change does to processor time: this tree beside another one, runs interleaved.

    .venv/bin/python benchmarks/speed.py OTHER [ROUNDS]

OTHER is another tree of twlab, set up (``git worktree add``, ``setup/install.sh``). Each round runs
each command in both trees, one after the other; told are medians, and the median of the rounds'
ratios. TWLAB_KERNEL_OTHER names a lab kernel for OTHER, where its own does not run here. The
catalogue is that of OTHER: scenarios that only one of the two has are left out.

Processor time is that of all processes of a command, by a control group (cpuacct), which takes
root: the processes of a lab kernel end unseen by those who started it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

COMMANDS = {
    "run stale-data, cold": ["run", "stale-data", "--out", "{out}"],
    "sweep, 2,000 trials": [
        *("sweep", "stale-segment", "--trials", "500", "--out", "{out}/sweep.json", "--grid", "timestamps=0"),
        *("--grid", "time_wait_s=1,10", "--grid", "delay_s=2,5"),
    ],
    "ceiling, one case": ["ceiling", "--time-wait", "10", "--ports", "40000-43999", "--out", "{out}"],
    "the catalogue": ["run", "{catalogue}", "--no-report", "--out", "{out}"],
}
GROUP = Path(f"/sys/fs/cgroup/cpuacct/twlab-speed-{os.getpid()}")


def shared_scenarios(*trees: Path) -> list[str]:
    """Return the names of the scenarios that all `trees` have."""
    files = [{file.stem for file in (tree / "twlab/scenarios").glob("[a-z]*.py")} for tree in trees]
    return sorted(name.replace("_", "-") for name in set.intersection(*files))


def spent(tree: Path, words: list[str], kernel: str) -> tuple[float, float]:
    """Return the processor and the wall seconds of a command of `tree`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(tree / ".venv/bin/twlab"), *(word.format(out=folder) for word in words)]
        before, began_s = int((GROUP / "cpuacct.usage").read_text()), time.perf_counter()
        finished = subprocess.run(
            ["sh", "-c", 'echo $$ > "$0/cgroup.procs"; exec "$@"', str(GROUP), *command],
            cwd=folder,
            env={**os.environ, **({"TWLAB_KERNEL": kernel} if kernel else {})},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        wall_s = time.perf_counter() - began_s
        assert finished.returncode == 0, f"{' '.join(command)}: {finished.stderr[-500:]}"
        while (GROUP / "cgroup.procs").read_text():
            time.sleep(0.05)
        return (int((GROUP / "cpuacct.usage").read_text()) - before) / 1e9, wall_s


def main(other: Path, rounds: int) -> None:
    here, kernel = Path(__file__).resolve().parent.parent, os.environ.get("TWLAB_KERNEL_OTHER", "")
    GROUP.mkdir(exist_ok=True)
    try:
        for name, told in COMMANDS.items():
            words = [
                each for word in told for each in (shared_scenarios(here, other) if word == "{catalogue}" else [word])
            ]
            pairs = [(spent(other, words, kernel), spent(here, words, "")) for _ in range(rounds)]
            for at, what in enumerate(("processor", "wall")):
                theirs, ours = ([each[at] for each in side] for side in zip(*pairs, strict=True))
                ratio = statistics.median(mine / his for his, mine in zip(theirs, ours, strict=True))
                print(
                    f"{name:24} {what:9} {statistics.median(theirs):8.2f} s {statistics.median(ours):8.2f} s "
                    f"{ratio:6.2f}",
                    flush=True,
                )
    finally:
        GROUP.rmdir()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
