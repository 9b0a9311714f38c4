"""The catalogue on the host engine beside busy programs: which verdicts come, and what is repeated.

    .venv/bin/python benchmarks/busy.py [--runs 200] [--burners 4] [--parts 2] [--together 1] [--log FILE] [NAME ...]

The burners are processes that only compute; they are children of this one and end with it. Each of the
runs is all scenarios (or those named), dealt to so many `twlab run --engine host` side by side; an arm
waits far more than it computes, so many of them are needed to keep a processor busy. Told after each
run: the verdicts, the arms that came otherwise than predicted or not at all, those that were run
again because the machine held them up, and the load. Exit status 1: an arm was otherwise than
predicted or not carried out although the machine can, or a scenario left no result.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from signal import SIGTERM, default_int_handler, signal
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from twlab.catalogue import load_scenarios  # noqa: E402
from twlab.linux import syscalls  # noqa: E402

# Ends with its parent, however that ends.
BURN = "import os; from twlab.linux.syscalls import die_with_parent; die_with_parent(9)\nwhile os.getppid() > 1: pass"

RUNNING: set[subprocess.Popen[bytes]] = set()


@contextmanager
def burning(count: int) -> Iterator[None]:
    """Keep so many processes computing."""
    burners = [subprocess.Popen([sys.executable, "-c", BURN], cwd=ROOT) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def catalogue(names: Sequence[str], parts: int, keep: Path | None) -> list[dict[str, Any]]:
    """Run the scenarios once, in parts side by side; returns what their result.json hold."""
    with tempfile.TemporaryDirectory(prefix="twlab-busy-") as folder:
        running = []
        for number in range(parts):
            words = ["run", *names[number::parts], "--engine", "host", "--no-report", "--out", f"out-{number}"]
            running.append(
                subprocess.Popen(
                    [sys.executable, "-P", "-m", "twlab", *words],
                    cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                    env={**os.environ, "PYTHONPATH": str(ROOT)}, preexec_fn=partial(syscalls.die_with_parent, SIGTERM),
                )
            )  # fmt: skip
        RUNNING.update(running)
        for process in running:
            process.wait()
        RUNNING.difference_update(running)
        results = []
        for file in sorted(Path(folder).glob("out-*/**/result.json")):
            results.append(json.loads(file.read_text()))
            if keep and count(results[-1:])[1]:
                shutil.copytree(file.parent, keep / f"{time.time_ns()}-{file.parent.name}")
        return results


def count(results: Sequence[dict[str, Any]]) -> tuple[Counter[str], list[str]]:
    """Count what became of the arms; name those that are otherwise than predicted."""
    seen: Counter[str] = Counter()
    otherwise = []
    for result in results:
        seen[result["verdict"]] += 1
        for name, arm in result["arms"].items():
            seen["arms repeated"] += bool(arm.get("repeated"))
            if (arm.get("error") or {}).get("kind") == "CapabilityError":
                seen["arms that this machine cannot"] += 1
            elif arm["ok"]:
                seen["arms as predicted"] += 1
            else:
                seen["arms otherwise"] += 1
                otherwise.append(f"{result['scenario']} {name}")
    return seen, otherwise


def one_run(given: argparse.Namespace, names: Sequence[str], began_s: float) -> dict[str, Any] | None:
    """Run the catalogue once and tell what came; None: no time is left for it."""
    if given.minutes and time.monotonic() - began_s > given.minutes * 60:
        return None
    shuffled = random.sample(names, len(names))  # else the heaviest scenarios of all runs would meet
    results = catalogue(shuffled, min(given.parts, len(names)), given.keep)
    seen, otherwise = count(results)
    if lost := sorted({*names} - {result["scenario"] for result in results}):
        seen["scenarios without a result"] = len(lost)
        otherwise += [f"{name}: no result" for name in lost]
    told = {"load": round(os.getloadavg()[0]), "burners": given.burners, "seen": dict(sorted(seen.items()))}
    return {**told, "otherwise": otherwise}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--burners", type=int, default=4)
    parser.add_argument("--parts", type=int, default=2)
    parser.add_argument("--together", type=int, default=1, help="So many runs at a time.")
    parser.add_argument("--minutes", type=float, default=0.0, help="Begin no further run after so long; 0: go on.")
    parser.add_argument("--keep", type=Path, help="Copy the results of arms that come otherwise into this folder.")
    parser.add_argument("--log", type=Path, help="Append each run to this file; the runs that it has count.")
    given = parser.parse_args()
    scenarios = load_scenarios()
    if unknown := {*given.names} - {*scenarios}:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    names = given.names or sorted(scenarios)
    done = [json.loads(line) for line in given.log.read_text().splitlines()] if given.log and given.log.exists() else []
    began_s = time.monotonic()
    signal(SIGTERM, default_int_handler)
    with burning(given.burners), ThreadPoolExecutor(given.together) as pool:
        waiting = [pool.submit(one_run, given, names, began_s) for _ in range(given.runs - len(done))]
        try:
            for future in as_completed(waiting):
                if (run := future.result()) is None:
                    continue
                done.append(run)
                if given.log:
                    with given.log.open("a") as log:
                        log.write(json.dumps(run) + "\n")
                told = ", ".join(f"{number} {what}" for what, number in run["seen"].items() if number)
                otherwise = run["otherwise"] or "none"
                print(f"run {len(done)}, load {run['load']}: {told}; otherwise: {otherwise}", flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in tuple(RUNNING):
                process.terminate()
            sys.exit("busy.py: stopped; the runs under way are lost, the log has those before")
    total: Counter[str] = Counter()
    for run in done:
        total.update(run["seen"])
    loads = sorted(run["load"] for run in done)
    print(f"{len(done)} runs, load {loads[0]} to {loads[-1]}, {time.monotonic() - began_s:.0f} s:")
    for what, number in sorted(total.items()):
        print(f"{number:>8,} {what}")
    sys.exit(bool(total["arms otherwise"] or total["scenarios without a result"]))


if __name__ == "__main__":
    main()
