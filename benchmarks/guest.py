"""The guest engine: cold start, what each further arm costs, and virtual seconds per wall second,
beside the host engine in the same run.

    .venv/bin/python benchmarks/guest.py [REPEATS]

Each figure is the best and the median of REPEATS runs (default 5): on a machine that does other
things, too, the best says most. This module is its own agent in the guest: the kernel's half of
each line is `carry_out`.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCENARIO = "stale-data"
SLEEPS, SLEEP_S = 2000, 36.0


def carry_out(request: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """In the guest: nothing, or twenty hours' sleep."""
    emit({"event": "start", "job": 0})
    for _ in range(request["sleeps"]):
        time.sleep(SLEEP_S)
    emit({"event": "end"})


class Run:
    """One run of an engine: when its events came, in seconds of wall time, and what it took in all."""

    def __init__(self, engine: Any, request: dict[str, Any]):
        self.starts: list[float] = []
        self.arms: list[float] = []
        self.virtual_s = 0.0
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        began_s = time.perf_counter()

        def on_event(event: dict[str, Any]) -> None:
            if event["event"] == "start":
                self.starts.append(time.perf_counter() - began_s)
            elif event["event"] == "arm":
                assert event["result"].get("ok"), event["result"]
                self.arms.append(time.perf_counter() - began_s - self.starts[-1])
                self.virtual_s += event["result"]["virtual_s"]

        with tempfile.TemporaryDirectory() as folder:
            for job in request.get("jobs", []):
                job["folder"] = folder
            engine.run(request, Path(folder), on_event, 120)
        self.wall_s = time.perf_counter() - began_s
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main(repeats: int) -> None:
    from twlab.catalogue import find_scenario
    from twlab.engines.guest.engine import Guest
    from twlab.engines.host import HostEngine
    from twlab.run.runner import AGENT

    arms = list(find_scenario(SCENARIO).arms)
    jobs = [{"source": SCENARIO, "arm": arm, "set": {}} for arm in arms]
    request = {"jobs": jobs, "seed": 1, "mechanisms": {}}
    bare = [Run(Guest(agent="guest"), {"sleeps": 0}) for _ in range(repeats)]
    hours = [Run(Guest(agent="guest"), {"sleeps": SLEEPS}) for _ in range(repeats)]
    guest = [Run(Guest(agent=AGENT), {**request, "engine": "guest"}) for _ in range(repeats)]
    row("guest: boot, to the first line of the agent", [run.starts[0] for run in bare])
    row("guest: boot and end, nothing done", [run.wall_s for run in bare])
    row(f"guest: boot and imports, to the first arm of {SCENARIO}", [run.starts[0] for run in guest])
    row("guest: the first arm", [run.arms[0] for run in guest])
    row("guest: each further arm", [arm for run in guest for arm in run.arms[1:]])
    row(f"guest: all {len(arms)} arms, cold", [run.wall_s for run in guest])
    row("       ... processor time", [run.cpu_s for run in guest])
    row(f"twlab run {SCENARIO}, cold, all told", [command() for _ in range(repeats)])
    host = [Run(HostEngine(agent=AGENT), {**request, "engine": "host"})]
    row(f"host:  all {len(arms)} arms, real time (once)", [run.wall_s for run in host])
    print()
    asleep_s = SLEEPS * SLEEP_S
    row("virtual seconds per wall second, asleep, cold", [asleep_s / run.wall_s for run in hours], " ", best=max)
    row("       ... and warm", [asleep_s / (run.wall_s - run.starts[0]) for run in hours], " ", best=max)
    row(
        f"virtual seconds per wall second, {SCENARIO}, cold",
        [run.virtual_s / run.wall_s for run in guest],
        " ",
        best=max,
    )
    row("       ... and warm, further arms", [run.virtual_s / sum(run.arms) for run in guest], " ", best=max)
    row("arms per second, warm", [(len(arms) - 1) / sum(run.arms[1:]) for run in guest], " ", best=max)
    row(f"guest against host, {SCENARIO}", [host[0].wall_s / run.wall_s for run in guest], "x", best=max)


def command() -> float:
    """Seconds for the whole command, as a user sees it."""
    with tempfile.TemporaryDirectory() as folder:
        began_s = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "twlab", "run", SCENARIO, "--engine", "guest", "--out", folder],
            check=True,
            capture_output=True,
        )
        return time.perf_counter() - began_s


def row(words: str, values: list[float], unit: str = "s", best: Callable[[list[float]], float] = min) -> None:
    if values:
        print(f"{words:62} {best(values):9.2f} {unit}   median {statistics.median(values):9.2f} {unit}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
