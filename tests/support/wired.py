"""What live tests of the wire and the capture stand on: a topology, running, with everything
recorded.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.results.transcript import Transcript
from twlab.segment import Flow, Segment
from twlab.traffic.applications import Host
from twlab.wire.capture import Capture
from twlab.wire.wire import Wire


@dataclass
class Wired:
    network: Network
    loop: Loop
    transcript: Transcript
    wire: Wire
    capture: Capture | None

    def __getitem__(self, name: str) -> Host:
        return Host(self.network[name], self.loop, self.transcript)

    def connected(self, port=80, client="client", server="server", family=4):
        """A connection: the client's end and the server's."""
        listener = self[server].listen(port, family=family)
        near = self[client].connect(self[server], port, family=family)
        far = listener.accept()
        listener.close()
        return near, far

    def endpoints(self, family=4):
        """A crafted endpoint on each side of the wire, for which no kernel answers."""
        return tuple(self.wire.endpoint(self.network[name], 4000, family=family) for name in ("client", "server"))

    def crafted(self, number: int, family=4) -> Segment:
        """The `number`-th of a row of segments from the client's crafted endpoint to the server's."""
        client, server = (self.network[name].address(family) for name in ("client", "server"))
        return self.wire.craft(
            flow=Flow(client, 4000, server, 4000), flags="PA", seq=number * 10, payload=b"0123456789"
        )

    def tapped(self) -> bool:
        """Whether the queue is bound."""
        with self.network["wire"].inside():
            return bool(Path("/proc/self/net/netfilter/nfnetlink_queue").read_text())


@contextmanager
def wired(topology="pair", capture: Path | None = None, nodes=("wire",), wire="wire", **options) -> Iterator[Wired]:
    """A running topology with its wire at the node `wire`; captured at `nodes` into the file
    `capture`, if given.
    """
    with ExitStack() as stack:
        loop = Loop()
        stack.callback(loop.close)
        network = stack.enter_context(Network(load_topology(topology)))
        transcript = Transcript(lambda: loop.now_s)
        recorder = (
            stack.enter_context(Capture([network[name] for name in nodes], capture, loop, **options))
            if capture
            else None
        )
        at = stack.enter_context(Wire(network[wire], loop, transcript, recorder))
        yield Wired(network, loop, transcript, at, recorder)
