"""The wire and the capture beside Scapy, in one run; every figure is a median.

    .venv/bin/python benchmarks/wire.py [ROUNDS]

    carry      bulk across the wire: with nothing armed; with a rule armed that looks at each segment
    send       one prepared segment: `inject`, which sends, times and tells; Scapy's kept socket; Scapy's sendp()
    craft      one new segment, by Scapy
    read       one segment, parsed and looked at by three rules; dissected by Scapy
    capture    of 1,000 segments at full speed, how many the file has, and Scapy's AsyncSniffer

Runs in a sandbox of its own. Imports are not counted.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from sandbox import SANDBOX
from scapy.config import conf
from scapy.layers.inet import IP, TCP
from scapy.layers.l2 import Ether
from scapy.sendrecv import AsyncSniffer, sendp

from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.results.transcript import Transcript
from twlab.segment import Flow, match, parse
from twlab.traffic.applications import Host
from twlab.wire.capture import Capture
from twlab.wire.wire import Wire

BULK = 20_000_000
BURST = 1000


class Bench:
    """A pair topology with a wire, and what is measured on it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.stack = ExitStack()
        self.network = self.stack.enter_context(Network(load_topology("pair")))
        self.loop = Loop()
        self.wire = self.stack.enter_context(Wire(self.network["wire"], self.loop, Transcript(lambda: self.loop.now_s)))
        client, server = (self.network[name] for name in ("client", "server"))
        self.endpoint = self.wire.endpoint(server, 4000)
        self.flow = Flow(client.address(), 4000, server.address(), 4000)
        self.segment = self.wire.craft(flow=self.flow, flags="PA", payload=b"x" * 100)
        self.way_out = self.network["wire"].interface_to("server")
        self.frame = Ether(src=self.way_out.mac, dst=self.way_out.peer.mac) / self.segment.raw

    def carry(self, port: int, armed: bool) -> float:
        """Data segments a second."""
        hosts = [Host(self.network[name], self.loop, Transcript(lambda: 0.0)) for name in ("client", "server")]
        listener = hosts[1].listen(port)
        near = hosts[0].connect(hosts[1], port)
        far = listener.accept()
        far.keep = False
        rule = self.wire.drop(match(payload=b"never sent")) if armed else None
        took_s = timed(lambda: (near.send(bytes(BULK)), far.wait_received(BULK)))
        if rule:
            rule.stop()
        return BULK / 1448 / took_s

    def inject(self) -> float:
        """Microseconds a segment."""
        return self._each(lambda: self.wire.inject(self.segment))

    def kept_socket(self) -> float:
        """Microseconds a segment, Scapy's socket kept open and the packet built before."""
        with self.network["wire"].inside():
            sock = conf.L2socket(iface=self.way_out.name)
        try:
            return self._each(lambda: sock.send(self.frame))
        finally:
            sock.close()

    def sendp(self) -> float:
        """Microseconds a segment."""
        with self.network["wire"].inside():
            return self._each(lambda: sendp(self.frame, iface=self.way_out.name, verbose=False), 20)

    def craft(self) -> float:
        """Microseconds a segment."""
        return self._each(lambda: self.wire.craft(self.segment, seq=7))

    def read(self) -> float:
        """Microseconds a segment."""
        rules = [match(source="10.0.1.1", payload=True), match(flags="S"), match(seq=(5, 10), having="F")]
        return self._each(lambda: [rule(segment) for segment in [parse(self.segment.raw, 0.0)] for rule in rules])

    def dissected(self) -> float:
        """Microseconds a segment."""
        return self._each(lambda: IP(self.segment.raw)[TCP].flags)

    def captured(self) -> float:
        """Per cent of a burst that the capture has."""
        with Capture([self.network["server"]], self.folder / "burst.pcapng", self.loop) as capture:
            self._burst()
        return 100 * min(capture.written, BURST - capture.lost) / BURST

    def sniffed(self) -> float:
        """Per cent of a burst that AsyncSniffer has."""
        with self.network["server"].inside():
            sniffer = AsyncSniffer(iface=self.way_out.peer.name, store=True, filter=None)
            sniffer.start()
            while not getattr(sniffer, "stop_cb", None):
                time.sleep(0.01)
            time.sleep(0.2)
        self._burst()
        time.sleep(0.5)
        return 100 * len([packet for packet in sniffer.stop() if packet.haslayer("TCP")]) / BURST

    def _burst(self) -> None:
        for _ in range(BURST):
            self.wire.inject(self.segment)

    def _each(self, call: Callable[[], object], times: int = 500) -> float:
        took_s = timed(lambda: [call() for _ in range(times)])
        self.loop.sleep(0)
        self.endpoint.seen.clear()
        return took_s / times * 1e6


def timed(call: Callable[[], object]) -> float:
    """Seconds that `call()` takes."""
    began_s = time.perf_counter()
    call()
    return time.perf_counter() - began_s


def measure(rounds: int) -> None:
    """All figures, in turn, and the ratios between their medians."""
    with tempfile.TemporaryDirectory(dir="/run") as folder:
        bench = Bench(Path(folder))
        with bench.stack:
            ports = iter(range(1000, 65535))
            kinds: dict[str, Callable[[], float]] = {
                "carry, nothing armed (segments/s)": lambda: bench.carry(next(ports), armed=False),
                "carry, a rule armed (segments/s)": lambda: bench.carry(next(ports), armed=True),
                "send, wire.inject (us)": bench.inject,
                "send, Scapy's kept socket (us)": bench.kept_socket,
                "send, Scapy's sendp (us)": bench.sendp,
                "craft (us)": bench.craft,
                "read, by three rules (us)": bench.read,
                "read, Scapy's dissection (us)": bench.dissected,
                "capture, ours (% of a burst)": bench.captured,
                "capture, AsyncSniffer (% of a burst)": bench.sniffed,
            }
            figures: dict[str, list[float]] = {name: [] for name in kinds}
            for _ in range(rounds):
                for name, kind in kinds.items():
                    figures[name].append(kind())
    for name, values in figures.items():
        print(f"{name:40} {statistics.median(values):12,.1f}   {min(values):,.1f} to {max(values):,.1f}")
    free, armed, inject, kept, sendp_us, _, read, dissected, *_ = map(statistics.median, figures.values())
    print(f"\nwire.inject takes {inject / sendp_us:.4f} of sendp's time, {inject / kept:.2f} of a kept socket's")
    print(f"an armed wire carries {armed / free:.2f} of what it carries with nothing armed")
    print(f"a segment is read, and looked at by three rules, in {read / dissected:.2f} of Scapy's time")


def main() -> None:
    """Into a sandbox, and measure."""
    rounds = sys.argv[1] if len(sys.argv) > 1 else "5"
    if sys.argv[2:] == ["inside"]:
        measure(int(rounds))
        return
    inside = [
        "sh",
        "-c",
        'mount -t tmpfs tmpfs /run && exec "$@"',
        "sh",
        sys.executable,
        "-W",
        "ignore",
        __file__,
        rounds,
        "inside",
    ]
    sys.exit(subprocess.run([*SANDBOX, *inside], check=False).returncode)


if __name__ == "__main__":
    main()
