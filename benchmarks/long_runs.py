"""Long runs: a sweep, the grading of a class, ceilings and alternatives, killed and continued.

    .venv/bin/python benchmarks/long_runs.py [--size SHARE] [--seed NUMBER] [--kills NUMBER] [--workers]
                                             [--out FOLDER] [--part PART]
                                             [sweep] [grade] [ceiling] [alternatives]

Each has three parts, which have to make the same table to the byte:

alone   On a terminal of its own. Read off are the peak of the driver's memory at 10 %, 50 % and at
        the end, and what the bar says is left at 10 % and 50 %, beside what was left.
killed  Ended with SIGKILL, once as it starts and then at random shares of the work, and a random
        moment after them; the same command goes on. No process may be left.
dask    With --workers: on a Dask cluster of four workers, of which one after the other gets SIGKILL.

--part names those to run, and their order. With --out the tables are kept, and the same command
goes on where it was: a part that is done is not repeated, one that was interrupted goes on.

--size 1: 1,000,000 trials, 1,000 submissions, 28,232 ports, and all rows of the alternatives (those
have 500 ports each, at any size). Status 1: a table differs, something is left, or memory grows.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "support")]

from classroom import ASSIGNMENT, answers, scenario  # noqa: E402

from twlab.grading.assignment import load_assignment  # noqa: E402

CELLS = ("timestamps=0,1", "time_wait_s=1,2,5,10,60", "delay_s=0.5,1,2,5,10,20,40,80,100,110")  # 100 of them
TRIALS, STUDENTS, LOW_PORT, PORTS, LINGER_PORTS = 1_000_000, 1000, 32_768, 28_232, 50
SOME_ALTERNATIVES = ("time-wait-10", "time-wait-1", "tw-reuse", "linger-0", "wider-range", "keep-alive", "reuseaddr")
TABLES = ("*.json", "*.csv", "*.md")
AT = (0.1, 0.5, 1.0)  # shares of the work, at which is looked
GROWTH = 1.1  # of the peak of memory from 10 % to the end; what is more is not flat
KEPT = 5  # times the table: what the driver has of it at the end, as objects, as text, and as it is written
PARTS = ("alone", "killed", "dask")
_LINE = re.compile(r": (\d+)/(\d+)  ")  # of progress, where there is no bar
_STEP = re.compile(r"(\d+)/(\d+)  .*?(\d+):(\d\d):(\d\d) +(?:(\d+):(\d\d):(\d\d)|-:--:--)")
ON_DASK = """
import subprocess, sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=4, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        process = subprocess.Popen([*sys.argv[1:], "--scheduler", cluster.scheduler_address])
        print(*(nanny.pid for nanny in cluster.workers.values()), flush=True)
        sys.exit(process.wait())
"""


@dataclass
class Seen:
    """What was read off a run that was left alone.

    Attributes:
        peaks_mb: of the driver's memory, at the shares `AT`.
        told: (share done, seconds since the start, seconds that the bar says are left) at those.
        took_s: all of it.
        peak: of the last look.
    """

    peaks_mb: list[float] = field(default_factory=list)
    told: list[tuple[float, float, float | None]] = field(default_factory=list)
    took_s: float = 0.0
    peak: float = 0.0

    def look(self, pid: int, share: float, at_s: float, left_s: float | None) -> None:
        """Keep what is seen when `share` of the work is done.

        The end is the last look before it: what comes then, a plot for instance, is no work.
        """
        self.peak = peak_mb(pid) if share < 1 else self.peak
        while len(self.told) < len(AT) and share >= AT[len(self.told)]:
            self.told.append((share, at_s, left_s))
            self.peaks_mb.append(self.peak)

    def lines(self, table_mb: float) -> list[str]:
        peaks = ", ".join(f"{peak:.0f}" for peak in self.peaks_mb)
        found = [f"{self.took_s:.0f} s; memory at 10 %, 50 % and the end: {peaks} MB"]
        if self.peaks_mb[-1] > self.peaks_mb[0] * GROWTH + KEPT * table_mb:
            found.append("FAULT memory grows")
        for share, at_s, left_s in self.told[:-1]:
            told, was_s = "nothing" if left_s is None else f"{left_s:.0f} s", self.told[-1][1] - at_s
            off = "" if not left_s else f", off by {left_s / max(was_s, 0.1) - 1:+.0%}"
            found.append(f"at {share:.0%} the bar said {told}, it was {was_s:.0f} s{off}")
        return found


def peak_mb(pid: int) -> float:
    """Return the peak of a process's memory so far; 0 when it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+)", text)
    return int(found[1]) / 1024 if found else 0.0


def descendants(pid: int) -> list[int]:
    """Return the processes below `pid`."""
    below = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if parent == pid:
            below += [int(folder.name), *descendants(int(folder.name))]
    return below


def command(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "twlab", *words]


def alone(words: Sequence[str], folder: Path) -> Seen:
    """Run a command to its end on a terminal of its own."""
    folder.mkdir(exist_ok=True)
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 300, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("CI", "NO_COLOR")} | {"TERM": "xterm"}
    began_s, seen, kept = time.monotonic(), Seen(), ""
    with (folder / "printed").open("wb") as printed:
        process = subprocess.Popen(
            command(words), cwd=folder, env=environment, stdin=its, stdout=printed, stderr=its, start_new_session=True
        )
    os.close(its)
    while True:
        try:
            data = os.read(ours, 1 << 16)
        except OSError:  # so Linux says that the other end of a terminal is closed
            break
        kept = (kept + data.decode(errors="replace"))[-8192:]
        for found in _STEP.finditer(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", kept)):
            done, total, _, _, _, hours, minutes, seconds = found.groups()
            left_s = None if hours is None else int(hours) * 3600 + int(minutes) * 60 + int(seconds)
            seen.look(process.pid, int(done) / int(total), time.monotonic() - began_s, left_s)
    os.close(ours)
    if process.wait():
        sys.exit(f"{' '.join(words)}: status {process.returncode}\n{kept}")
    seen.took_s = time.monotonic() - began_s
    return seen


def watched(process: subprocess.Popen[Any], printed: Path, share: float, then_s: float) -> bool:
    """Wait until `share` of the work is done, and `then_s` more; returns whether it still runs."""
    until_s: float | None = None
    while process.poll() is None:
        if until_s is None and done_share(printed) >= share:
            until_s = time.monotonic() + then_s
        if until_s is not None and time.monotonic() >= until_s:
            return True
        time.sleep(0.05)
    return False


def done_share(printed: Path) -> float:
    """Return what the last plain line of progress says, 0 before the first."""
    with printed.open("rb") as file:
        file.seek(max(0, printed.stat().st_size - 8192))
        found = _LINE.findall(file.read().decode(errors="replace"))
    return int(found[-1][0]) / int(found[-1][1]) if found else 0.0


def killed(words: Sequence[str], folder: Path, chance: random.Random, count: int) -> list[str]:
    """Run a command, end it with SIGKILL so many times; then to its end.

    Returns:
        What was found; the last line says which processes were left, if any.
    """
    folder.mkdir(exist_ok=True)
    noted = folder / "kills.json"
    kills: list[dict[str, Any]] = json.loads(noted.read_text()) if noted.exists() else []
    planned = [(share, chance.uniform(0.5, 8)) for share in [0.0, *sorted(chance.random() for _ in range(count - 1))]]
    peak = 0.0
    for share, then_s in (*planned[len(kills) :], (2.0, 0.0)):
        with (folder / "printed").open("wb") as printed:
            process = subprocess.Popen(
                command(words), cwd=folder, stdout=printed, stderr=subprocess.STDOUT, start_new_session=True
            )
        if not watched(process, folder / "printed", share, then_s):
            break
        below, peak = descendants(process.pid), max(peak, peak_mb(process.pid))
        process.kill()
        process.wait()
        kills.append({"share": done_share(folder / "printed"), "left": still_there(below)})
        noted.write_text(json.dumps(kills))
    if process.returncode:
        sys.exit(f"{' '.join(words)}: status {process.returncode}\n{(folder / 'printed').read_text()[-4000:]}")
    shares = ", ".join(f"{kill['share']:.0%}" for kill in kills)
    left = [pid for kill in kills for pid in kill["left"]]
    return [
        f"{len(kills)} times killed and continued, at {shares}; memory at the most {peak:.0f} MB",
        *([f"FAULT processes are left: {left}"] if left else []),
    ]


def still_there(pids: Sequence[int]) -> list[int]:
    """Return those of `pids` that run after a minute. A zombie has ended."""

    def runs(pid: int) -> bool:
        try:
            return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
        except OSError:
            return False

    until_s = time.monotonic() + 60
    while any(map(runs, pids)) and time.monotonic() < until_s:
        time.sleep(0.1)
    return [pid for pid in pids if runs(pid)]


def on_dask(words: Sequence[str], folder: Path, chance: random.Random) -> list[str]:
    """Run a command on a cluster of four; each worker gets SIGKILL once, at a random share.

    Their nannies put others in their place.
    """
    folder.mkdir(exist_ok=True)
    program = folder / "on_dask.py"
    program.write_text(ON_DASK)
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, str(program), *command(words)],
            cwd=folder, stdout=subprocess.PIPE, stderr=said, text=True, start_new_session=True,
        )  # fmt: skip
    assert process.stdout
    kills: list[float] = []
    for share, word in zip(sorted(chance.uniform(0, 0.9) for _ in range(4)), process.stdout.readline().split()):  # noqa: B905
        if not watched(process, folder / "said", share, chance.uniform(0.5, 8)):
            break
        os.kill(int(word), signal.SIGKILL)
        kills.append(done_share(folder / "said"))
    process.stdout.read()
    if process.wait():
        sys.exit(f"{' '.join(words)}, on Dask: status {process.returncode}\n{(folder / 'said').read_text()[-4000:]}")
    return [f"on Dask, {len(kills)} of 4 workers killed, at {', '.join(f'{share:.0%}' for share in kills)}"]


def tables(folder: Path) -> dict[str, bytes]:
    """Return what a command has written, by name."""
    return {file.name: file.read_bytes() for pattern in TABLES for file in sorted((folder / "made").glob(pattern))}


def hand_in(folder: Path, students: int) -> None:
    """Write so many submissions, each with answers and a scenario file of its own."""
    asked = load_assignment(ASSIGNMENT)
    folder.mkdir(exist_ok=True)
    for number in range(students):
        name = f"student-{number}"
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "answers.toml").write_text(answers(asked, name))
        (folder / name / "mine.py").write_text(scenario(asked, name) + f"\n# {name}\n")


def studies(size: float, place: Path) -> dict[str, Callable[[], list[str]]]:
    """Return the commands, by name; each is given when it is needed."""
    ports = max(1, round(PORTS * size))

    def grading() -> list[str]:
        hand_in(place / "submissions", max(1, round(STUDENTS * size)))
        return ["grade", str(place / "submissions"), "--assignment", str(ASSIGNMENT), "--out", "made/grades.json"]

    lengths = [word for seconds in (1, 2, 5, 10, 15, 30, 45, 60) for word in ("--time-wait", str(seconds))]
    return {
        "sweep": lambda: [
            *("sweep", "stale-segment", "--trials", str(max(1, round(TRIALS * size / 100)))),
            *(word for axis in CELLS for word in ("--grid", axis)),
            *("--out", "made/sweep.json"),
        ],
        "grade": grading,
        "ceiling": lambda: ["ceiling", "--ports", f"{LOW_PORT}-{LOW_PORT + ports - 1}", *lengths, "--out", "made"],
        "alternatives": lambda: [
            *("alternatives", *(() if size == 1 else (*SOME_ALTERNATIVES, "--no-judge"))),
            *("--out", "made"),
        ],
    }


def part_of(name: str, part: str, words: Sequence[str], folder: Path, given: argparse.Namespace) -> list[str]:
    """Run a part to its end; returns what was found, faults marked as such."""
    chance = random.Random(f"{given.seed} {name} {part}")
    if part == "killed":
        return killed(words, folder, chance, given.kills)
    if part == "dask":
        return on_dask(words, folder, chance)
    seen = alone(words, folder)
    return seen.lines(sum(map(len, tables(folder).values())) / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("studies", nargs="*", default=["sweep", "grade", "ceiling", "alternatives"])
    parser.add_argument("--size", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=19)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--workers", action="store_true")
    parser.add_argument("--part", action="append", choices=PARTS, help="May be repeated. Default: all.")
    parser.add_argument("--out", type=Path, help="Keep the tables here, and go on. Default: a folder that is removed.")
    given = parser.parse_args()
    faults = []
    with tempfile.TemporaryDirectory(prefix="twlab-long-") as temporary:
        place = (given.out or Path(temporary)).absolute()
        place.mkdir(parents=True, exist_ok=True)
        for name in given.studies:
            words = studies(given.size, place)[name]()
            print(f"{name}, size {given.size:g}, load {os.getloadavg()[0]:.1f}", flush=True)
            first: dict[str, bytes] = {}
            for part in given.part or PARTS[: 3 if given.workers else 2]:
                folder = place / f"{name}-{part}"
                noted = folder / "found.json"
                if not noted.exists():
                    found = part_of(name, part, words, folder, given)
                    noted.write_text(json.dumps(found))
                found = json.loads(noted.read_text())
                made = tables(folder)
                first = first or made
                same = "the same to the byte" if made and made == first else "FAULT another table"
                found += [] if made is first else [f"the table is {same}"]
                faults += [f"{name}, {part}: {line}" for line in found if line.startswith(("FAULT", "the table is F"))]
                print(*(f"    {part}: {line}" for line in found), sep="\n", flush=True)
    sys.exit("; ".join(faults) or 0)


if __name__ == "__main__":
    main()
