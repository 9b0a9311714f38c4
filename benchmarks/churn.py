"""Connections a second of our own load beside ab (apache2-utils) and wrk, on the same server, in
one run.

    .venv/bin/python benchmarks/churn.py [ROUNDS]

Each opens a connection, asks for a page of two bytes, reads the answer and sees the connection
closed by the server; 64 at a time, for 3 s, in turns, on the host engine's network `pair`. The
server is nginx, one process; where it is not installed, HAProxy answers. Beside the rate stands
what each needs of its own processor time, which a busy machine does not change so much. The last
row is what the load does with nothing asked: connections opened and reset to a server on the same
loop. Runs in a sandbox of its own.
"""

from __future__ import annotations

import math
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox import SANDBOX

from twlab.loop import Loop
from twlab.network import Network, Node, load_topology
from twlab.traffic.load_client import Load, LoadClient, LoadServer, PortChoice

OPEN, SECONDS = 64, 3
NGINX = """
daemon off; master_process off; user root; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3; uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    server {{ listen 80 backlog=4096 reuseport; keepalive_timeout 0; location / {{ return 200 "ok"; }} }}
}}
"""  # noqa: E501
HAPROXY = """
global
    maxconn 4096
defaults
    mode http
    timeout client 10s
frontend page
    bind :80
    option httpclose
    http-request return status 200 content-type text/plain string ok
"""


@contextmanager
def server(node: Node, folder: Path) -> Iterator[str]:
    """A web server on port 80 of `node`; its name."""
    nginx, haproxy = (
        shutil.which("nginx", path="/usr/sbin:/usr/bin"),
        shutil.which("haproxy", path="/usr/sbin:/usr/bin"),
    )
    if not nginx and not haproxy:
        sys.exit("neither nginx nor haproxy is installed")
    file = folder / "conf"
    file.write_text(NGINX.format(folder=folder) if nginx else HAPROXY)
    command = (
        [nginx, "-p", str(folder), "-e", "stderr", "-c", str(file)] if nginx else [str(haproxy), "-db", "-f", str(file)]
    )
    with node.inside():
        process = subprocess.Popen(command)
    try:
        yield "nginx" if nginx else "HAProxy"
    finally:
        process.terminate()
        process.wait()


Rate = tuple[float, float]  # answers in a second of time, and in a second of the generator's own processor time


def ours(client: Node, address: str) -> Rate:
    """Of `twlab.traffic.load_client`."""
    loop = Loop()
    asked = Load(
        rate_per_s=math.inf,
        duration_s=SECONDS,
        targets=[(address, 80)],
        opener_closes=False,
        request=b"GET / HTTP/1.0\r\n\r\n",
        most_open=OPEN,
        timed=False,
    )
    tally = LoadClient(client, loop, asked).run()
    assert not tally.failed, tally.failed
    return tally.answered / SECONDS, tally.answered / sum(second.cpu_s for second in tally.seconds)


def tool(client: Node, command: list[str], pattern: str) -> Rate:
    """As the tool tells it."""
    if not shutil.which(command[0]):
        return math.nan, math.nan
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with client.inside():
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = re.search(pattern, told)
    assert found, told
    rate = float(found[1])
    return rate, rate * SECONDS / (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def bare(client: Node, other: Node) -> Rate:
    """Connections, both ends of them in this process."""
    loop = Loop()
    origin = LoadServer(other, loop, ports=(81,))
    load = Load(
        rate_per_s=math.inf,
        duration_s=SECONDS,
        targets=[(other.address(), 81)],
        ports=PortChoice.RANGE,
        linger_0=True,
        timed=False,
    )
    tally = LoadClient(client, loop, load).run()
    origin.close()
    assert not tally.failed, tally.failed
    return tally.connected / SECONDS, tally.connected / sum(second.cpu_s for second in tally.seconds)


def measure(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder, Network(load_topology("pair")) as network:
        client, other = network["client"], network["server"]
        for node in (client, other):
            node.write_sysctl("net.ipv4.ip_local_port_range", "1024 65535")
        url = f"http://{other.address()}/"
        ab = ["ab", "-q", "-c", str(OPEN), "-t", str(SECONDS), "-n", "10000000", url]
        wrk = ["wrk", "-t", "1", "-c", str(OPEN), "-d", f"{SECONDS}s", "-H", "Connection: close", url]
        with server(other, Path(folder)) as name:
            ready = Loop()
            for _ in range(50):
                if (
                    not LoadClient(client, ready, Load(rate_per_s=10, duration_s=0.1, targets=[(other.address(), 80)]))
                    .run()
                    .failed
                ):
                    break
                ready.sleep(0.1)
            kinds: dict[str, Callable[[], Rate]] = {
                "twlab": lambda: ours(client, other.address()),
                "ab": lambda: tool(client, ab, r"Requests per second:\s+([\d.]+)"),
                "wrk": lambda: tool(client, wrk, r"Requests/sec:\s+([\d.]+)"),
            }
            figures: dict[str, list[Rate]] = {kind: [] for kind in kinds}
            for _ in range(rounds):
                for kind, call in kinds.items():
                    figures[kind].append(call())
        figures["twlab, nothing asked, both ends in one process"] = [bare(client, other) for _ in range(rounds)]
    print(
        f"answers a second from {name}, {OPEN} connections at a time: median, least and most; and for a "
        f"second of its own processor time"
    )
    for kind, values in figures.items():
        rates = [rate for rate, _ in values]
        median, efficient = statistics.median(rates), statistics.median(efficient for _, efficient in values)
        print(f"{kind:50} {median:10,.0f}   {min(rates):7,.0f} to {max(rates):7,.0f}   {efficient:10,.0f}")
    for other_kind in ("ab", "wrk"):
        pairs = list(zip(figures["twlab"], figures[other_kind], strict=True))
        rate, efficient = (statistics.median(mine[kind] / other[kind] for mine, other in pairs) for kind in (0, 1))
        print(f"twlab / {other_kind}, round by round: {rate:.2f}; by processor time: {efficient:.2f}")


def main() -> None:
    """Into a sandbox, and measure."""
    rounds = sys.argv[1] if len(sys.argv) > 1 else "5"
    if sys.argv[2:] == ["inside"]:
        measure(int(rounds))
        return
    inside = ["sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh", sys.executable, __file__, rounds, "inside"]
    sys.exit(subprocess.run([*SANDBOX, *inside], check=False).returncode)


if __name__ == "__main__":
    main()
