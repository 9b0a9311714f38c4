"""Texts as `ss -tanoe` would print them on machines of public reports, made from a description.

Numbers are those of the reports.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from twlab.diagnose.diagnosis import Part, diagnose
from twlab.diagnose.texts.assemble import Text, snapshot

LOW, HIGH = 32768, 60999
PORTS = HIGH - LOW + 1
HEADER = "State      Recv-Q Send-Q      Local Address:Port        Peer Address:Port Process\n"
SYSCTL = {
    "ip_local_port_range": f"{LOW}\t{HIGH}",
    "tcp_tw_reuse": "2",
    "tcp_timestamps": "1",
    "tcp_fin_timeout": "60",
    "tcp_max_tw_buckets": "262144",
}


def line(state: str, local: str, port: int, remote: str, remote_port: int, rest: str = "") -> str:
    return f"{state:<10} 0      0 {local + ':' + str(port):>25} {remote + ':' + str(remote_port):>25} {rest}\n"


def left(count: int, rate_per_s: float, quiet_s: float = 0.0) -> Iterator[str]:
    """Timers of `count` sockets that were closed `rate_per_s` times a second, the last one
    `quiet_s` ago.
    """
    for number in range(count):
        ms = max(0, int(1000 * (60 - quiet_s - (number + 0.5) / rate_per_s)))
        yield (
            f"timer:(timewait,{ms // 1000}sec,0)" if ms > 9999 else f"timer:(timewait,{ms // 1000}.{ms % 1000:03}ms,0)"
        )


def by_connect(count: int, seed: int = 1, taken: Sequence[int] = ()) -> list[int]:
    """Ports as connect() chooses them: those of the low end's parity first."""
    return _drawn(count, 0, seed, taken)


def by_bind(count: int, seed: int = 1, taken: Sequence[int] = ()) -> list[int]:
    """Ports as bind(address, 0) chooses them: the other parity first, and none that is in use."""
    return _drawn(count, 1, seed, taken)


def _drawn(count: int, first: int, seed: int, taken: Sequence[int]) -> list[int]:
    dice, held = random.Random(seed), set(taken)
    halves = [[port for port in range(LOW + side, HIGH + 1, 2) if port not in held] for side in (first, 1 - first)]
    for half in halves:
        dice.shuffle(half)
    return (halves[0] + halves[1])[:count]


def waiting(
    source: str, destination: str, port: int, ports: Sequence[int], rate_per_s: float, quiet_s: float = 0.0
) -> list[str]:
    return [
        line("TIME-WAIT", source, local, destination, port, timer)
        for local, timer in zip(ports, left(len(ports), rate_per_s, quiet_s), strict=True)
    ]


def open_(
    source: str, destination: str, port: int, ports: Sequence[int], owner: str = "", inode: int = 10_000
) -> list[str]:
    users = f'users:(("{owner}",pid=7,fd=9)) ' if owner else ""
    return [
        line("ESTAB", source, local, destination, port, f"{users}ino:{inode + number} sk:1")
        for number, local in enumerate(ports)
    ]


def listening(*ports: int) -> list[str]:
    return [line("LISTEN", "0.0.0.0", port, "0.0.0.0", "*", "ino:1 sk:1") for port in ports]  # type: ignore[arg-type]


def judged(
    sockets: Sequence[str],
    sysctl: dict[str, str] | None = None,
    counters: dict[str, int] | None = None,
    more: Sequence[Text] = (),
) -> Part:
    """The diagnosis of these lines of ss, settings over Linux's own, and counters."""
    settings = [f"net.ipv4.{name} = {value}\n" for name, value in {**SYSCTL, **(sysctl or {})}.items()]
    counted = ["#kernel\n", *(f"{name:<32}{value:<19}0.0\n" for name, value in (counters or {}).items())]
    texts = [Text("ss -tanoep", [HEADER, *sockets]), Text("sysctl -a", settings), Text("nstat -az", counted), *more]
    (part,) = diagnose(snapshot(texts, "test")).parts
    return part
