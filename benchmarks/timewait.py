"""TIME_WAIT sockets in bulk: listing and counting them, and the reaper that ends them at their age,
against ss(8) in the same run.

    .venv/bin/python benchmarks/timewait.py [SOCKETS] [AGE_S]

Runs itself in a sandbox of namespaces. The load, connections over loopback closed as fast as Python
can, stops before the first socket is due.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import nullcontext

from sandbox import SANDBOX


class Here:
    """This process's own network namespace, as a node."""

    name, role = "here", "endpoint"

    def inside(self) -> nullcontext[None]:
        return nullcontext()


def main(count: int, age_s: float) -> None:
    from twlab.linux import tcp_sockets
    from twlab.tuning.time_wait_reaper import TimeWaitReaper

    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    here = Here()
    print(f"the reaper, idle for 2 s:        {_busy(lambda: time.sleep(2), here, age_s)}")
    listeners = [socket.create_server(("127.0.0.1", 0), backlog=64) for _ in range(16)]
    reaper = TimeWaitReaper(here, age_s)
    began_s = time.monotonic()
    for index in range(count):
        first = socket.create_connection(listeners[index % 16].getsockname())
        second, _ = listeners[index % 16].accept()
        first.close()
        second.close()
    made_s = time.monotonic() - began_s
    print(f"connections made and closed:     {count} in {made_s:.2f} s")
    for words, act in (
        ("timewait.count", lambda: tcp_sockets.count(here)),
        ("timewait.table", lambda: len(tcp_sockets.table(here))),
        (
            "ss -tan state time-wait",
            lambda: subprocess.check_output(["ss", "-Htan", "state", "time-wait"]).count(b"\n"),
        ),
    ):
        began_s = time.perf_counter()
        found = act()
        print(f"{words + ':':32} {found} in {(time.perf_counter() - began_s) * 1000:.1f} ms")
    time.sleep(age_s + 0.2)
    left = tcp_sockets.count(here)
    print(f"the reaper at {age_s:g} s:              {reaper.stop()}; {left} left over")


def _busy(act, here: Here, age_s: float) -> str:
    from twlab.tuning.time_wait_reaper import TimeWaitReaper

    reaper = TimeWaitReaper(here, age_s)
    act()
    return str(reaper.stop())


if __name__ == "__main__":
    if os.environ.get("TWLAB_BENCHMARK") != "inside":
        sys.exit(
            subprocess.run(
                [*SANDBOX, sys.executable, *sys.argv], env={**os.environ, "TWLAB_BENCHMARK": "inside"}, check=False
            ).returncode
        )
    arguments = sys.argv[1:]
    main(int(arguments[0]) if arguments else 28_000, float(arguments[1]) if len(arguments) > 1 else 10.0)
