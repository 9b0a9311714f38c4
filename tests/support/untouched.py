"""What TCP is and does in a network namespace that nothing was set in: its sysctls, its counters,
and conversations segment by segment. `data/unchanged-7.3.json` has what a kernel without the lab's
changes to TCP answered to the same.

Runs in the lab kernel, see test_kernel_untouched.py. Times are of virtual time, to the hundredth.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crafted import ACK, FIN, RST, SYN, Seen
from recycle_cases import Bench, counters, time_waits

from twlab.linux.syscalls import inside_network_namespace, new_network_namespace

OURS = ("net.ipv4.tcp_timewait_len", "net.ipv4.tcp_tw_recycle", "net.ipv4.tcp_timestamp_offset")
_TSVAL = 5_000_000


def untouched() -> dict[str, Any]:
    """Sysctls and counters of a new namespace, sysctls of the first one, and the conversations."""
    found: dict[str, Any] = {"sysctls": {"first": _sysctls()}, "segments": {}}
    with inside_network_namespace(new_network_namespace()):
        found["sysctls"]["new"] = _sysctls()
        found["counters"] = _all_counters()
    bench = Bench()
    for converse in CONVERSATIONS:
        for tsval in (None, _TSVAL):
            before = counters()
            talk = _Talk(bench, tsval)
            converse(talk)
            talk.end()
            name = converse.__name__ + ("" if tsval is None else ", timestamps")
            moved = {name: rise for name, value in counters().items() if (rise := value - before.get(name, 0))}
            found["segments"][name] = {"lines": talk.lines, "moved": moved}
    return found


def record(kernel: str, target: str) -> None:
    """Write `target`, the record of the program `kernel`: `python untouched.py KERNEL TARGET`."""
    import json
    import tempfile

    import untouched as this
    from in_guest import run_in_guest

    os.environ["TWLAB_KERNEL"] = kernel
    with tempfile.TemporaryDirectory() as folder:
        found = run_in_guest(this.untouched, folder=Path(folder))
    Path(target).write_text(json.dumps(found, indent=1) + "\n")


def _sysctls() -> dict[str, str]:
    found = {}
    for path in sorted(Path("/proc/sys/net").rglob("*")):
        if path.is_file():
            try:
                value = " ".join(path.read_text().split())
            except OSError as error:
                value = errno.errorcode[error.errno or 0]
            found[".".join(path.parts[3:])] = value
    return found


def _all_counters() -> dict[str, int]:
    lines = Path("/proc/net/snmp6").read_text().splitlines()
    return counters() | {name: int(value) for name, value in (line.split() for line in lines)}


class _Talk:
    """A conversation with a crafted client: what each end sends, numbers relative to the first.

    Attributes:
        lines: ``0.25 < ACK 1:101(100) ack 1`` was sent to the kernel, ``>`` by it.
    """

    def __init__(self, bench: Bench, tsval: int | None):
        self.bench, self.tsval = bench, tsval
        bench.fresh()
        self.client = bench.client(tsval)
        self.began_s = time.monotonic()
        self.lines: list[str] = []
        self.theirs = self.client.seq
        self.ours: int | None = None
        self.acked = 0
        self.clock: int | None = None
        self.server: socket.socket | None = None

    def say(self, flags: int = ACK, *, at: int, ack: int = 0, size: int = 0, older_ms: int = 0) -> None:
        """Send a segment; `at` and `ack` count from the first numbers of either end."""
        tsval = None if self.tsval is None else self.tsval - older_ms
        acked = ((self.ours or 0) + ack) % 2**32 if flags & ACK else 0
        self._tell("<", flags, at, size, ack if flags & ACK else None)
        self.bench.wire.send(
            self.client, flags, seq=self.theirs + at, ack=acked, tsval=tsval, tsecr=self._echo(), payload=b"x" * size
        )
        self.hear(0.02)

    def hear(self, wait_s: float) -> None:
        """Write down what the kernel sends within `wait_s`."""
        until = time.monotonic() + wait_s
        while (left := until - time.monotonic()) > 0 and (seen := self.bench.wire.receive(self.client, left)):
            self._heard(seen)

    def open(self) -> None:
        """Open the connection from the client's side."""
        self.say(SYN, at=0)
        self.say(ACK, at=1, ack=1)
        self.server, _ = self.bench.listeners[7000].accept()

    def shut(self) -> None:
        """The server closes first and ends up in TIME_WAIT."""
        self.close()
        self.hear(0.02)
        self.say(FIN | ACK, at=1, ack=2)
        self.table()

    def close(self) -> None:
        assert self.server
        self.server.close()
        self.server = None

    def table(self) -> None:
        """Write down the state, and what is left of TIME_WAIT to the second."""
        self.lines.append(
            f"{self._now()} table {[(state, round(left_s)) for state, left_s in time_waits(self.client)]}"
        )

    def end(self) -> None:
        """Close the connection, and leave nothing of it behind: no timer that fires in the next."""
        if self.server:
            self.close()
        self.hear(0.02)
        self.bench.wire.send(self.client, RST, seq=self.theirs + self.acked, ack=0, tsval=self.tsval, tsecr=0)
        time.sleep(0.02)

    def _heard(self, seen: Seen) -> None:
        if self.ours is None:
            self.ours = seen.seq
        flags, size = seen.flags, len(seen.payload)
        at = _signed(seen.seq - self.ours)
        if seen.tsval is not None:
            self.clock = seen.tsval
        if flags & ACK:
            self.acked = _signed(seen.ack - self.theirs)
        self._tell(">", flags, at, size, self.acked if flags & ACK else None, seen.window)

    def _tell(self, way: str, flags: int, at: int, size: int, ack: int | None, window: int | None = None) -> None:
        kind = "+".join(name for name, bit in (("RST", RST), ("SYN", SYN), ("FIN", FIN), ("ACK", ACK)) if flags & bit)
        acked = "" if ack is None else f" ack {ack}"
        self.lines.append(
            f"{self._now()} {way} {kind or 'none'} {at}:{at + size}({size}){acked}"
            + ("" if window is None else f" win {window}")
        )

    def _echo(self) -> int:
        return self.clock or 0

    def _now(self) -> str:
        return f"{time.monotonic() - self.began_s:.2f}"


def _signed(number: int) -> int:
    return (number + 2**31) % 2**32 - 2**31


def assassination(talk: _Talk) -> None:
    """RFC 1337, figure 1: an old segment, the ACK that answers it, the RST that answers that."""
    talk.open()
    talk.shut()
    talk.say(at=-200, ack=1, size=100, older_ms=1000)
    talk.table()
    talk.say(RST, at=2)
    talk.table()


def old_data_accepted(talk: _Talk) -> None:
    """Hazard H1: old data ahead of what has been read, and then the new data before it."""
    talk.open()
    talk.say(at=101, ack=1, size=100, older_ms=1000)
    talk.say(at=1, ack=1, size=100)
    talk.say(at=201, ack=1, size=50)


def acknowledged_and_never_sent(talk: _Talk) -> None:
    """Hazard H2: an ACK of what was never sent, one too old, and one of everything."""
    talk.open()
    assert talk.server
    talk.say(at=1, ack=5001)
    talk.say(at=1, ack=5001)
    talk.say(at=1, ack=-100_000)
    talk.server.send(b"y" * 500)
    talk.hear(0.02)
    talk.say(at=1, ack=501)


def old_ack_while_opening(talk: _Talk) -> None:
    """Hazard H3: the kernel opens, and the answer is an old ACK; then what it should be."""
    client = talk.client
    opener = socket.socket()
    opener.setblocking(False)
    client.server_port = client.port
    opener.bind((client.server, client.server_port))
    opener.connect_ex((client.address, client.port))
    talk.hear(0.02)
    talk.say(at=500, ack=-1000)
    talk.say(at=500, ack=70_000)
    talk.hear(3.5)
    talk.say(SYN | ACK, at=0, ack=1)
    opener.close()
    talk.hear(0.02)


def segments_for_time_wait(talk: _Talk) -> None:
    """What TIME_WAIT is asked: each kind of segment, and at last it is reopened."""
    talk.open()
    talk.shut()
    time.sleep(10)
    talk.say(FIN | ACK, at=1, ack=2)
    talk.table()
    time.sleep(10)
    talk.say(at=2, ack=2)
    talk.table()
    time.sleep(10)
    talk.say(at=2, ack=2, size=100)
    talk.say(at=2, ack=2, size=100, older_ms=5000)
    talk.say(RST, at=100)
    talk.say(SYN, at=2, older_ms=5000)
    talk.say(SYN, at=-100)
    talk.table()
    talk.say(SYN, at=70_000)
    talk.say(RST, at=70_001)
    talk.table()


def time_wait_in_full(talk: _Talk) -> None:
    """How long it lasts, to the second."""
    talk.open()
    talk.shut()
    while time_waits(talk.client):
        time.sleep(0.25)
    talk.lines.append(f"over after {time.monotonic() - talk.began_s:.0f} s")


def orphan_in_fin_wait_2(talk: _Talk) -> None:
    """The FIN is acknowledged and no FIN comes: data is answered by RST; later, the FIN is late."""
    talk.open()
    talk.close()
    talk.hear(0.02)
    talk.say(at=1, ack=2)
    talk.table()
    talk.say(at=1, ack=2, size=100)
    talk.say(FIN | ACK, at=1, ack=2)
    talk.table()


def unanswered(talk: _Talk) -> None:
    """SYN-ACK, data and FIN are sent again, and again."""
    talk.say(SYN, at=0)
    talk.hear(16)
    talk.say(ACK, at=1, ack=1)
    talk.server, _ = talk.bench.listeners[7000].accept()
    talk.server.send(b"y" * 2000)
    talk.hear(8)
    talk.say(at=1, ack=1461 if talk.tsval is None else 1449)
    talk.say(at=1, ack=2001)
    talk.close()
    talk.hear(8)


def outside_the_window(talk: _Talk) -> None:
    """RFC 5961: RST and SYN in the window and beyond it, data beyond it, old timestamps."""
    talk.open()
    talk.say(RST, at=100)
    talk.say(RST, at=10_000_000)
    time.sleep(1)
    talk.say(SYN, at=50)
    talk.say(at=10_000_000, ack=1, size=100)
    time.sleep(1)
    talk.say(at=1, ack=1, size=100, older_ms=1000)
    talk.say(at=1, ack=1, size=0, older_ms=1000)
    talk.say(RST, at=1)


CONVERSATIONS: tuple[Callable[[_Talk], None], ...] = (
    assassination,
    old_data_accepted,
    acknowledged_and_never_sent,
    old_ack_while_opening,
    segments_for_time_wait,
    time_wait_in_full,
    orphan_in_fin_wait_2,
    unanswered,
    outside_the_window,
)

if __name__ == "__main__":
    record(*sys.argv[1:])
