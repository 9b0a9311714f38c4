"""What a range of ports costs as it fills: the time of a connect on this machine's kernel, and the
memory of TIME_WAIT in the lab kernel.

    .venv/bin/python benchmarks/ports.py

28,232 ports, Linux's default, of which a share is in TIME_WAIT; then a hundred connections are
opened and closed. What is told is processor time, of both ends together, because a busy machine
changes it little. In the lab kernel it could not be seen: its clock stands still while anything
computes. Memory is the kernel's slab before and after 20,000 connections; the end that closed last
keeps nothing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from sandbox import SANDBOX

from twlab.linux.sockstat import Sockstat
from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.ports import LINUX_PORTS
from twlab.traffic.load_client import Load, LoadClient, LoadServer, PortChoice

SHARES = (0.0, 0.25, 0.49, 0.5, 0.75, 0.9, 0.97)
PORTS = LINUX_PORTS[1] - LINUX_PORTS[0] + 1
TIMED, KEPT = 100, 20_000


def filling(choice: PortChoice) -> list[tuple[float, float]]:
    """Share of the ports in use, and processor time of a connection then in microseconds."""
    found = []
    with Network(load_topology("pair")) as network:
        loop, opener, server = Loop(), network["client"], network["server"]
        origin, in_use = LoadServer(server, loop), Sockstat(opener).time_wait

        def load(count: int, choice: PortChoice) -> Any:
            targets = [(server.address(), 80)]
            return LoadClient(
                opener, loop, Load(rate_per_s=1e6, duration_s=count / 1e6, targets=targets, ports=choice, tick_s=0.001)
            ).run()

        for share in SHARES:
            if (lacking := round(share * PORTS) - in_use()) > 0:
                # Up to the half, as the kernel itself chooses, which is every second port; the rest
                # by the quicker way, to save time.
                load(lacking, PortChoice.CONNECT if share <= 0.5 else PortChoice.RANGE)
            at = in_use() / PORTS
            found.append((at, sum(second.cpu_s for second in load(TIMED, choice).seconds) / TIMED * 1e6))
        origin.close()
    return found


def carry_out(request: dict[str, Any], emit: Any) -> None:
    """In the lab kernel: bytes of memory for each connection in TIME_WAIT."""
    with Network(load_topology("pair")) as network:
        loop, opener, server = Loop(), network["client"], network["server"]
        opener.write_sysctl("net.ipv4.tcp_max_tw_buckets", 262_144)
        origin = LoadServer(server, loop)
        load = Load(rate_per_s=5000, duration_s=0.2, targets=[(server.address(), 80)], ports=PortChoice.RANGE)
        LoadClient(opener, loop, load).run()  # things that are made once are made now
        loop.sleep(130)
        before, count = _slab_bytes(), Sockstat(opener).time_wait
        kept = Load(rate_per_s=5000, duration_s=KEPT / 5000, targets=[(server.address(), 80)], ports=PortChoice.RANGE)
        LoadClient(opener, loop, kept).run()
        loop.sleep(1)
        emit({"event": "memory", "sockets": count(), "bytes": (_slab_bytes() - before) / count()})
        origin.close()
    emit({"event": "end"})


def _slab_bytes() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Slab:"))


def main() -> None:
    """Into a sandbox for the times, into the lab kernel for the memory."""
    if sys.argv[1:] == ["inside"]:
        plain, ranged = filling(PortChoice.CONNECT), filling(PortChoice.RANGE)
        print("ports in use   connect() alone, us   with IP_LOCAL_PORT_RANGE, us")
        for (share, plain_us), (_, ranged_us) in zip(plain, ranged, strict=True):
            print(f"{share:12.0%} {plain_us:21,.0f} {ranged_us:30,.0f}")
        return
    inside = ["sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh", sys.executable, __file__, "inside"]
    subprocess.run([*SANDBOX, *inside], check=True)
    from twlab.engines.guest.engine import Guest

    answers: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        Guest(agent="ports").run({}, Path(folder), answers.append, 300)
    print(
        f"\n{answers[0]['bytes']:.0f} bytes of kernel memory for each of {answers[0]['sockets']:,} "
        f"connections in TIME_WAIT (lab kernel)"
    )


if __name__ == "__main__":
    main()
