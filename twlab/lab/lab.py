"""The object passed to a scenario's steps: nodes, wire, clock, helpers.

Cheap to import, for every scenario file: `twlab.run.arm` loads what a running lab is made of.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

from twlab.errors import CapabilityError, ScenarioError, did_you_mean
from twlab.linux import conntrack as tracking
from twlab.linux import counters, ipvs, tcp_sockets
from twlab.loop import Loop
from twlab.results.transcript import Transcript
from twlab.segment import Segment, match
from twlab.settings import Settings
from twlab.traffic.applications import Attempt, Host, Listener
from twlab.traffic.connection import Connection

if TYPE_CHECKING:
    from twlab.network import Network
    from twlab.traffic.connection_pairs import ConnectionPairs
    from twlab.traffic.service import Service
    from twlab.wire.wire import Wire

Outcome = TypeVar("Outcome")
Story = Generator[float, None, Outcome]

_BLOCK = 1 << 18
_POLL_S = 0.01
_SAMPLE = 20  # TIME_WAIT sockets, or tracked connections, listed in one row of the evidence; the count is always there


class Reopened:
    """The outcome of reopening a four-tuple.

    Attributes:
        error: name of the error with which it was refused; empty when it was not, and only then
            there are the others:
        new, peer: the connection's two ends.
        syn, syn_ack: as they crossed the wire.
    """

    def __init__(self, attempt: Attempt, peer: Connection | None, opening: Sequence[Segment]):
        self.error = attempt.error
        if attempt.connection and peer:
            self.new, self.peer = attempt.connection, peer
            self.syn, self.syn_ack = opening[:2]


class Lab:
    """The network of one arm, running.

    ``lab["client"]`` is a node as a `Host`; `lab.wire` is the wire (`lab.wires` by name, where a
    topology has several).

    Attributes:
        loop: the lab's clock and event loop.
        transcript: what has been done.
        random: a generator seeded by the run's seed and the arm's name.
        settings: the settings in force, by node name.
        closing: what is undone when the arm ends.
    """

    def __init__(
        self,
        network: Network,
        loop: Loop,
        transcript: Transcript,
        wires: Mapping[str, Wire],
        settings: Mapping[str, Settings],
        rng: random.Random,
    ):
        self.network = network
        self.loop = loop
        self.transcript = transcript
        self.wires = wires
        self.settings = settings
        self.random = rng
        self.closing = ExitStack()
        self.time_wait_samples: list[dict[str, Any]] = []
        self.conntrack_samples: list[dict[str, Any]] = []
        self.tables: dict[str, list[dict[str, Any]]] = {}
        self._hosts = {name: Host(node, loop, transcript) for name, node in network.nodes.items()}
        self._counters = {name: counters.read(node) for name, node in network.nodes.items()}

    def __getitem__(self, name: str) -> Host:
        if name not in self._hosts:
            guess = did_you_mean(str(name), self._hosts)
            raise ScenarioError(
                f"this topology has no node called {name!r}{guess}",
                f"its nodes are: {', '.join(self._hosts)}",
                "no-such-node",
            )
        return self._hosts[name]

    @property
    def wire(self) -> Wire:
        """The wire; the first one where there are several."""
        return next(iter(self.wires.values()))

    @property
    def now_s(self) -> float:
        """Seconds since the arm began."""
        return self.loop.now_s

    def step(self, text: str) -> None:
        """Begin a step, in words. What is done until the next one belongs to it."""
        self.transcript.record("step", text)
        self.sample()

    def note(self, text: str, **details: Any) -> None:
        """Put a finding into the transcript."""
        self.transcript.record("note", text, **details)

    def row(self, table: str, **cells: Any) -> None:
        """Add a row to one of the arm's tables.

        ``twlab run`` prints the rows of all arms beneath one title; the report shows them so, too.

        Args:
            table: its title.
            cells: JSON values by column; None leaves a cell empty. Units stand in the names:
                ``median_ms``, ``failed_share``.
        """
        self.tables.setdefault(table, []).append(cells)

    def require(self, holds: object, premise: str) -> None:
        """End the arm unless its `premise` holds.

        Without it the arm means nothing, and the verdict is INCONCLUSIVE.

        Raises:
            ScenarioError: the premise does not hold (``premise-failed``).
        """
        self.transcript.record("check", f"{premise}: {'yes' if holds else 'NO'}")
        if not holds:
            raise ScenarioError(
                f"a premise of the scenario does not hold: {premise}",
                "see the transcript; a busy machine may be too slow",
                "premise-failed",
            )

    def sleep(self, duration_s: float) -> None:
        """Let `duration_s` seconds pass; the wire and all applications go on."""
        self.loop.sleep(duration_s)

    def sleep_until(self, at_s: float) -> None:
        """Let time pass until `now_s` is `at_s`."""
        self.loop.sleep_until(at_s)

    def wait_until(self, condition: Callable[[], object], timeout_s: float = 10.0) -> bool:
        """Let time pass until `condition()` is true; whether it was, within `timeout_s`.

        The condition is checked after each event, and every 10 ms, because changes inside the
        kernel raise no event.
        """
        return self.loop.wait_until(condition, timeout_s, _POLL_S)

    def transfer(self, sender: Connection, receiver: Connection, count: int, filler: bytes = b".") -> float:
        """Send `count` filler bytes; return the seconds until the other end has them.

        The receiving application does not keep them.

        Raises:
            ScenarioError: they were not all sent (``send-failed``), or did not all arrive
                (``transfer-failed``).
        """
        began_s, before = self.now_s, receiver.received
        receiver.keep = False
        try:
            sender.send(filler * max(1, _BLOCK // len(filler)), total=count)
            arrived = receiver.wait_received(before + count)
        finally:
            receiver.keep = True
        if not arrived:
            raise ScenarioError(f"{receiver.received - before} of {count} bytes arrived", slug="transfer-failed")
        return self.now_s - began_s

    def close(self, first: Connection, second: Connection) -> None:
        """Close a connection in order.

        `first` sends its FIN first and ends in TIME_WAIT; of `second` nothing is left.

        Raises:
            ScenarioError: the connection did not end so (``premise-failed``).
        """
        first.close()
        second.wait_closed_by_peer()
        second.close()

        def done() -> bool:
            left = tcp_sockets.state(second.node, *second.flow)
            return not left and tcp_sockets.state(first.node, *first.flow) == "TIME_WAIT"

        self.require(
            self.wait_until(done),
            f"{first.node.name}, which closed first, is in TIME_WAIT; {second.node.name} has nothing left",
        )

    def side_by_side(self, stories: Iterable[Story[Outcome]]) -> list[Outcome]:
        """Run many stories side by side; return their outcomes in the order of `stories`.

        A story is a generator. It yields the time, as `now_s` counts, at which it goes on, and
        returns its outcome. Between two yields only one story runs.
        """
        outcomes: dict[int, Outcome] = {}
        now_s = self.now_s
        waiting = [(now_s, number, story) for number, story in enumerate(stories)]
        while waiting:
            at_s, number, story = heapq.heappop(waiting)
            if at_s > now_s:
                now_s = self.loop.sleep_until(at_s)
            try:
                heapq.heappush(waiting, (next(story), number, story))
            except StopIteration as end:
                outcomes[number] = end.value
        return [outcomes[number] for number in sorted(outcomes)]

    def connection_pairs(self, client: str, server: str, port: int, *, family: int = 4) -> ConnectionPairs:
        """Return a client and a server that open connections by the thousand.

        See `twlab.traffic.connection_pairs.ConnectionPairs`. It is closed when the arm ends.
        """
        from twlab.traffic.connection_pairs import ConnectionPairs

        made = ConnectionPairs(
            self.network[client], self.network[server], self.wire.node, port, self.loop, self.transcript, family
        )
        self.closing.callback(made.close)
        return made

    shuttle = connection_pairs  # the name that it had first

    def reopen(self, old: Connection, listener: Listener, *, source_port: int | None = None) -> Reopened:
        """Open the four-tuple of `old` again, from its node to `listener`.

        `old` connected to `listener`. The wire keeps copies of SYN and SYN-ACK.

        Args:
            source_port: None: that of `old`; 0: the kernel chooses, as in connect() without bind().
        """
        port = old.flow.source_port if source_port is None else source_port
        opening = self.wire.copy(match(having="S"), count=2)
        client, server = self[old.node.name], self[listener.node.name]
        attempt = client.try_connect(server, listener.port, source_port=port, family=listener.family)
        peer = listener.accept() if attempt else None
        opening.stop()
        return Reopened(attempt, peer, opening.segments)

    def visit(self, client: Host, server: Host, listener: Listener, patience_s: float, source_port: int = 0) -> Attempt:
        """Connect from `client`, let `server` close first; return the outcome of connect.

        A web server without keep-alive closes so.

        Raises:
            ScenarioError: the connection was opened, but not closed so (``premise-failed``).
        """
        attempt = client.try_connect(
            server, listener.port, source_port=source_port, family=listener.family, timeout_s=patience_s
        )
        if attempt.connection:
            self.close(listener.accept(), attempt.connection)
        return attempt

    def refuse(self, node: str, segments: str) -> None:
        """Have a firewall at `node` drop arriving packets that match `segments`.

        A scenario may call it several times; the rules add up.

        Args:
            segments: a match in nftables' language.

        Raises:
            CapabilityError: the kernel's nftables cannot do that (``no-nftables``).
        """
        from twlab.linux import nftables

        with self.network[node].inside():
            chain = f"chain inward {{ type filter hook input priority filter; {segments} drop; }}"
            nftables.apply(f"table inet refused {{ {chain}; }};")
        self.note(f"from now on a firewall at {node} drops: {segments}")

    def shift_clocks(self, ahead_s: Mapping[str, float]) -> None:
        """Let the timestamp clocks of nodes run ahead, as if they had booted earlier.

        It holds for connections from now on, and may be called once an arm. The kernel does it if
        it has a clock for each node, else the gateways in front of the nodes
        (`twlab.tuning.timestamp_shift`).

        Raises:
            ScenarioError: there is neither such a clock nor a gateway (``no-gateway``).
            CapabilityError: the gateway cannot, see `twlab.tuning.timestamp_shift.apply`.
        """
        from twlab.tuning import timestamp_shift

        ahead_ms = {name: round(seconds * 1000) for name, seconds in ahead_s.items()}
        how = timestamp_shift.apply(self.network, self.loop, ahead_ms, self.closing)
        self.note(f"timestamp clocks run apart: {how}", ahead_ms=ahead_ms)

    def time_wait(self, node: str) -> list[tcp_sockets.TimeWait]:
        """The TIME_WAIT sockets of a node, now."""
        return tcp_sockets.table(self.network[node])

    def time_wait_ends(self, node: str, timeout_s: float = 10.0) -> bool:
        """Let what is in TIME_WAIT at a node now end; whether it has, in time."""
        entries = self.time_wait(node)
        return self.wait_until(lambda: not tcp_sockets.left(self.network[node], entries), timeout_s)

    def sockets(self, node: str, state: str = "") -> list[tcp_sockets.Socket]:
        """The TCP sockets of a node, now.

        The mini-sockets of TIME_WAIT and of an orphaned FIN_WAIT2 are among them. With `state` only
        those in that state, e.g. ``SYN_RECV`` or ``LAST_ACK``.
        """
        return [entry for entry in tcp_sockets.sockets(self.network[node]) if state in ("", entry.state)]

    def service(self, balancer: str = "balancer", *, family: int = 4) -> Service:
        """Have every server behind a balancer listen; return them as one service."""
        from twlab.network.balancers import IpvsBalancer, ServerPool
        from twlab.traffic.service import Service

        node = self.network[balancer]
        assert isinstance(node, ServerPool)
        virtual = isinstance(node, IpvsBalancer) and node.forwarding != "masquerade"
        return Service(self[balancer], {name: self[name] for name in node.servers}, family, virtual)

    def balanced(self, balancer: str = "balancer") -> list[ipvs.Entry]:
        """The connections that a node's IP Virtual Server remembers, now."""
        with self.network[balancer].inside():
            return ipvs.connections()

    def conntrack(self, gateway: str) -> list[tracking.Entry]:
        """The TCP connections that a gateway tracks, now.

        Raises:
            CapabilityError: the kernel cannot list them (``no-conntrack-netlink``).
        """
        return tracking.table(self.network[gateway])

    def rest_ports(self, gateway: str, rest_s: int = 0) -> None:
        """Have a gateway keep each port at rest after use; `rest_s` 0: by its own timer."""
        rest = tracking.PortRest(self.network[gateway], rest_s)
        self.closing.callback(rest.close)
        self.loop.watch(rest.channel, rest.serve)
        self.closing.callback(self.loop.forget, rest.channel)

    def moved(self, node: str, counter: str) -> int:
        """Return how far a kernel counter of `node` has moved since the arm began.

        For example ``moved("server", "PAWSEstab")``.

        Raises:
            ScenarioError: no kernel has such a counter, or not this one (``no-such-counter``): it
                could never move.
        """
        from difflib import get_close_matches

        now = counters.read(self.network[node])
        if counter not in now and not counters.may_be_missing(counter):
            near = get_close_matches(counter, now, 3)
            remedy = (
                f"did you mean {' or '.join(near)}?" if near else "twlab shell shows those that have moved: counters"
            )
            raise ScenarioError(f"the kernel of {node} has no counter called {counter!r}", remedy, "no-such-counter")
        return now.get(counter, 0) - self._counters[node].get(counter, 0)

    def all_moved(self) -> dict[str, dict[str, int]]:
        """Every counter that has moved since the arm began, by node."""
        return {
            name: counters.delta(self._counters[name], counters.read(node)) for name, node in self.network.nodes.items()
        }

    def sample(self) -> None:
        """Put the TIME_WAIT tables, and what gateways track, into the evidence."""
        at_s = round(self.now_s, 3)
        for name, node in self.network.nodes.items():
            if node.role == "endpoint" and (table := tcp_sockets.table(node)):
                sockets = [entry.as_dict() for entry in table[:_SAMPLE]]
                self.time_wait_samples.append({"at_s": at_s, "node": name, "count": len(table), "sockets": sockets})
            elif node.role == "gateway" and (tracked := self._tracked(name)):
                entries = [entry.as_dict() for entry in tracked[:_SAMPLE]]
                states = tracking.by_state(tracked)
                self.conntrack_samples.append(
                    {"at_s": at_s, "node": name, "count": len(tracked), "states": states, "entries": entries}
                )

    def _tracked(self, gateway: str) -> list[tracking.Entry]:
        """Return what a gateway tracks; empty, with a note, if the kernel cannot list it."""
        try:
            return self.conntrack(gateway)
        except CapabilityError as error:
            self.note(error.message)
            return []
