#!/usr/bin/env bash
# Dask gives a task up with "all those workers died while running it", though it has never begun.
#
# Guess: as the reference says of distributed.scheduler.allowed-failures ("when a worker dies when a task is running
# that task is rerun elsewhere"), a death counts for the task that the worker was at.
# Happened: it counts for every task that was dealt to the worker, and one is dealt ahead. With the fourth death
# both end with KilledWorker, the one that ran and the one that waited, with the same words.
# Matters to: preemptible machines and memory limits: four deaths fail tasks that had no part in them, and the
# message sends the reader to the wrong one.
# Versions: distributed 2026.8.0, dask 2026.8.0.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi dask==2026.8.0 distributed==2026.8.0

cat >deaths.py <<'PY'
import pathlib
import subprocess
import sys
import time

from distributed import Client, LocalCluster


RUNNING = pathlib.Path("running")
OPTIONS = ("--nthreads", "1", "--no-nanny", "--no-dashboard")


def runs() -> None:
    RUNNING.touch()
    time.sleep(1000)


def waits() -> None:
    pathlib.Path("began").touch()


def main() -> None:
    with LocalCluster(n_workers=0, dashboard_address=None) as cluster, Client(cluster) as client:
        tasks = [client.submit(runs, key="runs", priority=1), client.submit(waits, key="waits")]
        for _ in range(4):
            worker = subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, *OPTIONS]
            )
            dealt: list[str] = []
            while len(dealt) < 2 or not RUNNING.exists():
                time.sleep(0.2)
                dealt = sorted(name for names in client.processing().values() for name in names)
            worker.kill()
            worker.wait()
            RUNNING.unlink()
            print("a worker dies that has:", *dealt)
        for task in tasks:
            error = task.exception(timeout=60)
            print(f"{task.key}: {type(error).__name__}: {str(error).partition('.')[0]}")
    print("the one that waits has begun:", pathlib.Path("began").exists())


if __name__ == "__main__":
    main()
PY
alone python3 deaths.py 2>log >seen || { cat log >&2; exit 1; }

expect <<'SEEN'
a worker dies that has: runs waits
a worker dies that has: runs waits
a worker dies that has: runs waits
a worker dies that has: runs waits
runs: KilledWorker: Attempted to run task 'runs' on 4 different workers, but all those workers died while running it
waits: KilledWorker: Attempted to run task 'waits' on 4 different workers, but all those workers died while running it
the one that waits has begun: False
SEEN
