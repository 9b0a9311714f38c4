"""The wire: the router that every segment of interest crosses. On it segments are watched, held,
copied, delayed, reordered, dropped, injected.

How it works. Each verb arms a rule: an impairment (`twlab.wire.impairments`) of the segments that
match. While a rule is armed, the node's forwarded TCP segments come up through the netfilter queue,
and every rule sees what the ones armed before it let pass. A segment that passes gets the verdict
"accept" and goes on in the kernel. One that is to be released later is dropped there, and sent from
here when its time has come; so a released copy and a held original take the same way out. While
nothing is armed the queue is not bound, and bulk crosses at the kernel's speed.

What the wire does not see counts only if it would have seen it: a canary crosses when the queue is
bound, and another before it is let go (`twlab.wire.canary`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twlab.errors import EngineError, ScenarioError
from twlab.linux import nfqueue, rtnetlink
from twlab.loop import Loop
from twlab.results.transcript import Transcript
from twlab.segment import Match, Segment, match, parse, without_timestamp
from twlab.wire import canary, impairments
from twlab.wire.impairments import Release
from twlab.wire.sender import Outlet, Outlets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from netfilterqueue import Packet

    from twlab.network import Interface, Node
    from twlab.wire.capture import Capture
    from twlab.wire.raw_endpoint import RawEndpoint

_TOLD = 20  # what one rule does is told segment by segment up to here, and then as a total


class Rule:
    """Something that the wire does to segments, until it has done it often enough or is stopped.

    Attributes:
        words: what it does, in the third person: ``holds``.
        comment: on the packets it befalls, in the capture; empty for a watch, which does nothing
            worth telling.
        segments: those it befell, in order; `at_s` is when each came to the wire.
    """

    def __init__(self, wire: Wire, words: str, act: impairments.Selected | impairments.Reorder, comment: str = ""):
        self.words = words
        self.segments = act.segments
        self.comment = comment
        self._act = act
        self._wire = wire
        self._stopped = False

    def __call__(self, segment: Segment, now_s: float) -> list[Release]:
        """What becomes of `segment`."""
        return self._act(segment, now_s) if self.armed else impairments.passing(segment, now_s)

    @property
    def armed(self) -> bool:
        """It still acts."""
        return not self._stopped and not self._act.exhausted

    def wait(self, timeout_s: float = 10.0, count: int = 1) -> bool:
        """Let time pass until it has befallen `count` segments; whether it has, within `timeout_s`."""
        return self._wire.loop.wait_until(lambda: len(self.segments) >= count, timeout_s)

    def stop(self) -> None:
        """Do no more. What is held stays held; what has been delayed still arrives."""
        if self.armed:
            self._stopped = True
            self._wire.settle()


class Held(Rule):
    """Segments held or copied, to be let go at a time of the scenario's choosing.

    Attributes:
        released_at_s: when each was released, in the order of release.
    """

    def __init__(self, wire: Wire, words: str, act: impairments.Selected, comment: str):
        super().__init__(wire, words, act, comment)
        self.released_at_s: list[float] = []

    def release(self, *, without_timestamp: bool = False) -> None:
        """See `Wire.release`."""
        self._wire.release(self, without_timestamp=without_timestamp)


class Wire:
    """The wire at `node`, as a context manager.

    Args:
        node: a router; its forwarded TCP segments are the ones that cross.
        capture: sees every segment that the wire sends, and has a comment on each that it impairs
            or injects.

    Attributes:
        mechanism: how segments come up: ``nft queue`` or ``iptables NFQUEUE``; empty while nothing
            has been armed.
        fault: once it is closed, the error (``blind-lab``) if it cannot vouch for what it has not
            seen.

    Raises:
        CapabilityError: on the first verb that needs it, if this machine has no netfilter queue
            (``no-netfilter-queue``).
        EngineError: the queue does not hand up what crosses (``blind-lab``), or what the wire sends
            does not go where it should (``sent-not-seen``).
    """

    def __init__(self, node: Node, loop: Loop, transcript: Transcript, capture: Capture | None = None):
        self.node = node
        self.loop = loop
        self.mechanism = ""
        self.fault: EngineError | None = None
        self._unseen = 0
        self._canaries = 0
        self._known_ways: dict[str, Outlet] = {}
        self._transcript = transcript
        self._capture = capture
        self._names = dict(_names(node))
        self._by_index = {interface.index: interface for interface in node.interfaces}
        self._outlets = Outlets(node)
        self._rules: list[Rule] = []
        self._endpoints: list[RawEndpoint] = []
        self._tap: nfqueue.Tap | None = None
        self._fault: Exception | None = None
        self._closed = False

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything; what has not been released never arrives."""
        for rule in self._rules:
            rule._stopped = True
            if len(rule.segments) > _TOLD and rule.comment:
                self._tell(f"{rule.words} {len(rule.segments)} segments in all")
        try:
            self.settle()
        except EngineError as fault:
            self.fault = self.fault or fault
        for endpoint in self._endpoints:
            endpoint.close()
        self._outlets.close()
        self._closed = True

    @property
    def unseen(self) -> int:
        """How often the queue ran over and segments passed unseen: bulk, where an ordinary user has
        a small net.core.rmem_max.
        """
        return self._unseen + (self._tap.overruns if self._tap else 0)

    def watch(self, predicate: Match | None = None, seen: Callable[[Segment], object] | None = None) -> Rule:
        """Keep every segment that matches, as it passes, and hand it to `seen`."""

        def show(segment: Segment, now_s: float) -> list[Release]:
            if seen:
                seen(segment)
            return impairments.passing(segment, now_s)

        return self._arm(Rule(self, "watches", impairments.Selected((predicate or match()).fresh(), show)))

    def hold(self, predicate: Match, count: int | None = 1) -> Held:
        """Take the next `count` segments that match off the link (None: all), until they are
        released.
        """
        taken = impairments.Selected(predicate.fresh(), impairments.taking, count)
        return self._arm(Held(self, "holds", taken, "held by the wire"), predicate, count)

    def copy(self, predicate: Match, count: int | None = 1) -> Held:
        """Let the next `count` segments that match pass, and keep a copy of each (None: of all)."""
        passed = impairments.Selected(predicate.fresh(), impairments.passing, count)
        return self._arm(Held(self, "copies", passed, "copied by the wire"), predicate, count)

    def drop(self, predicate: Match, count: int | None = None) -> Rule:
        """Lose the next `count` segments that match (None: all)."""
        dropped = impairments.Selected(predicate.fresh(), impairments.Drop(), count)
        return self._arm(Rule(self, "drops", dropped, "dropped by the wire"), predicate, count)

    def delay(self, predicate: Match, delay_s: float, count: int | None = None) -> Rule:
        """Let the next `count` segments that match (None: all) arrive `delay_s` later, in their
        order.
        """
        act = impairments.Selected(predicate.fresh(), impairments.Delay(delay_s), count)
        return self._arm(
            Rule(self, f"delays by {delay_s:g} s", act, "taken by the wire, to be delayed"), predicate, count
        )

    def duplicate(self, predicate: Match, after_s: float = 0.0, count: int | None = 1) -> Rule:
        """Let the next `count` segments that match (None: all) pass, and each arrive once more
        `after_s` later.
        """
        act = impairments.Selected(predicate.fresh(), impairments.Duplicate(after_s), count)
        return self._arm(Rule(self, f"duplicates after {after_s:g} s", act, "duplicated by the wire"), predicate, count)

    def reorder(self, predicate: Match, behind: int = 1, count: int | None = 1) -> Rule:
        """Let the next segment that matches arrive only after `behind` later ones of its flow;
        `count` times (None: again and again).
        """
        act = impairments.Reorder(predicate.fresh(), behind, count)
        return self._arm(
            Rule(self, f"puts behind {behind} later", act, f"put behind {behind} later by the wire"), predicate, count
        )

    def impair(
        self, predicate: Match, impairment: impairments.Impairment, words: str = "impairs", count: int | None = None
    ) -> Rule:
        """Apply any impairment of `twlab.wire.impairments` to the next `count` segments that match
        (None: all).
        """
        return self._arm(
            Rule(self, words, impairments.Selected(predicate.fresh(), impairment, count), "impaired by the wire"),
            predicate,
            count,
        )

    def release(self, held: Held, *, without_timestamp: bool = False) -> None:
        """Let go of everything that `held` has: it arrives now, back to back. A second release
        makes duplicates.

        Args:
            without_timestamp: as if a middlebox had stripped the timestamp option.
        """
        held.stop()
        for segment in held.segments:
            if held.words == "holds":
                comment = f"held {self.loop.now_s - segment.at_s:.3f} s by the wire"
            else:
                comment = f"copy of the packet from t={segment.at_s:.3f} s, released at t={self.loop.now_s:.3f} s"
            held.released_at_s.append(self._release(segment, comment, without_timestamp))

    def inject(self, packet: Segment | bytes, into: Interface | None = None) -> float:
        """Put an IP packet onto a link, as if it had come all the way.

        Args:
            packet: a segment, crafted or seen; or the bytes of an IP packet, which are sent as they
                are.
            into: the interface at which it arrives, anywhere in the network; None: it leaves the
                wire towards its destination.

        Returns:
            When it was sent.

        Raises:
            ScenarioError: the wire has no route to the destination, or cannot tell it
                (``no-route``).
        """
        segment = parse(packet, self.loop.now_s) if isinstance(packet, bytes) else packet
        raw = packet if isinstance(packet, bytes) else packet.raw
        if into:
            outlet = self._outlets.at(into)
        elif segment:
            outlet = self._way_to(segment.destination)
        else:
            raise ScenarioError(
                "only a whole TCP segment can be routed", "name the interface it shall arrive at: into=...", "no-route"
            )
        at_s = self._send(outlet, raw, "injected by the lab")
        self._tell(
            f"injects {segment.words(self._names) if segment else f'{len(raw)} bytes'}"
            + (f" into {into.name}" if into else "")
        )
        return at_s

    def craft(self, like: Segment | None = None, **fields: Any) -> Segment:
        """A new segment, made with Scapy; see `twlab.wire.craft.craft`. It bears the present time
        and is not sent.
        """
        from twlab.wire.craft import craft

        return craft(self.loop.now_s, like=like, **fields)

    def endpoint(self, node: Node, port: int, *, address: str | None = None, family: int = 4) -> RawEndpoint:
        """An endpoint at `node` for which no kernel answers, until it or the wire is closed; see
        `twlab.wire.raw_endpoint.RawEndpoint`.
        """
        from twlab.wire.raw_endpoint import RawEndpoint

        endpoint = RawEndpoint(
            node, port, self.loop, self._transcript, self._capture, address=address, family=family, names=self._names
        )
        self._endpoints.append(endpoint)
        return endpoint

    def settle(self) -> None:
        """Let go of the queue if nothing is armed any more.

        Raises:
            EngineError: it no longer handed up what crossed (``blind-lab``).
        """
        if self._tap and not any(rule.armed for rule in self._rules):
            self.loop.forget(self._tap)
            sees = self._sees_canaries(self._tap)
            self._tap.close()
            if self._tap.overruns:
                self._unseen += self._tap.overruns
                self._tell(f"could not keep up {self._tap.overruns} times: segments passed unseen")
            self._tap = None
            if not sees:
                raise canary.blind(f"the wire at {self.node.name} no longer saw what crossed it")

    def _arm(self, rule: Any, predicate: Match | None = None, count: int | None = None) -> Any:
        if not self.mechanism:
            self.mechanism = nfqueue.install(self.node)
        self._rules = [known for known in self._rules if known.armed or len(known.segments) > _TOLD]
        self._rules.append(rule)
        if predicate:
            self._tell(f"from now on {rule.words} {_which(count)}: {self._named(predicate)}")
        if self._tap is None:
            self._tap = nfqueue.Tap(self.node, self._on_packet)
            self.loop.watch(self._tap, self._serve)
            if not self._sees_canaries(self._tap):
                raise canary.blind(f"the wire at {self.node.name} does not see what crosses it")
        return rule

    def _serve(self) -> None:
        assert self._tap
        before = self._tap.overruns
        self._tap.serve()
        if self._tap.overruns > before and (
            watch := next((rule for rule in self._rules if rule.armed and not rule.comment), None)
        ):
            what = f"the queue of {self.node.name} ran over, and what passed then was not seen by what {watch.words}"
            remedy = "raise net.core.rmem_max, run as root, or use --engine guest"
            self.fault = self.fault or EngineError(what, remedy, "blind-lab")
        self.settle()
        if self._fault:
            fault, self._fault = self._fault, None
            raise fault

    def _sees_canaries(self, tap: nfqueue.Tap) -> bool:
        """Send an IPv4 and an IPv6 canary across the node; whether the queue hands up both, unless
        nothing can cross just now.
        """
        if len(self.node.interfaces) < 2:
            return True
        one, other = self.node.interfaces[:2]
        wanted = self._canaries + 2

        def seen() -> bool:
            tap.serve()
            return self._canaries >= wanted

        try:
            for source, destination in ((one.peer.all4[0], other.peer.all4[0]), (one.peer.all6[0], other.peer.all6[0])):
                self._outlets.at(one).send(canary.make(source, destination))
        except OSError:
            return not self._are_running(one, other)
        return seen() or not self._are_running(one, other) or canary.await_sight(seen)

    def _are_running(self, *interfaces: Interface) -> bool:
        with self.node.inside():
            return all(rtnetlink.is_running(interface.index) for interface in interfaces)

    def _on_packet(self, packet: Packet) -> None:
        try:
            self._judge(packet)
        except Exception as fault:  # it cannot pass through the queue's C library: `_serve` raises it
            self._fault = fault

    def _judge(self, packet: Packet) -> None:
        now_s = self.loop.now_s
        segment = parse(packet.get_payload(), now_s) if packet.get_payload_len() else None
        if segment is None:
            packet.accept()
            return
        if segment.source_port == 0 and canary.is_canary(segment.raw):
            self._canaries += 1
            packet.drop()
            return
        releases, comments = [Release(now_s, segment)], []
        for rule in self._rules:
            befallen = len(rule.segments)
            releases = [later for release in releases for later in rule(release.segment, release.at_s)]
            if len(rule.segments) > befallen and rule.comment:
                comments.append(rule.comment)
                if len(rule.segments) <= _TOLD:
                    self._tell(f"{rule.words} {segment.words(self._names)}")
        if comments and self._capture and packet.indev in self._by_index:
            self._capture.comment_last(self._by_index[packet.indev], segment.raw, "; ".join(comments))
        passed = False
        for release in releases:
            if release.segment is segment and release.at_s <= now_s and not passed:
                packet.accept()
                passed = True
            elif release.at_s <= now_s:
                self._release_late(release.segment, passed and release.segment is segment)
            else:
                self.loop.call_at(release.at_s, partial(self._release_late, release.segment, passed))
        if not passed:
            packet.drop()

    def _release_late(self, segment: Segment, is_copy: bool) -> None:
        if not self._closed:
            late_s = self.loop.now_s - segment.at_s
            comment = (
                f"copy of the packet from t={segment.at_s:.3f} s, {late_s:.3f} s later"
                if is_copy
                else f"delayed {late_s:.3f} s by the wire"
            )
            self._send(self._way_to(segment.destination), segment.raw, comment)

    def _release(self, segment: Segment, comment: str, stripped: bool) -> float:
        leaving = without_timestamp(segment) if stripped else segment
        at_s = self._send(
            self._way_to(segment.destination), leaving.raw, comment + (", its timestamp stripped" if stripped else "")
        )
        self._tell(f"releases {leaving.words(self._names)}")
        return at_s

    def _send(self, outlet: Outlet, raw: bytes, comment: str) -> float:
        if self._capture:
            self._capture.send(outlet, raw, comment)
        else:
            outlet.send(raw)
        return self.loop.now_s

    def _way_to(self, destination: str) -> Outlet:
        """The way to the address `destination`; where it has changed, both of the kernel's answers
        must name it.
        """
        outlet = self._outlets.to(destination)
        if self._known_ways.get(destination) is not outlet:
            if not self._outlets.leads(outlet, destination):
                what = f"what {self.node.name} sends to {destination} would leave towards {outlet.target.node.name}, and the kernel's way is another"
                raise EngineError(what, "run it again; if it stays, run it with --engine guest", "sent-not-seen")
            self._known_ways[destination] = outlet
        return outlet

    def _named(self, predicate: Match) -> str:
        return " ".join(self._names.get(word, word) for word in str(predicate).split(" "))

    def _tell(self, text: str) -> None:
        self._transcript.record("wire", text, self.node.name)


def _which(count: int | None) -> str:
    return "every segment" if count is None else "the next segment" if count == 1 else f"the next {count} segments"


def _names(node: Node) -> Iterator[tuple[str, str]]:
    """Address and name of every node that links lead to from `node`."""
    met, ahead = {node.name}, [node]
    while ahead:
        current = ahead.pop()
        for interface in current.interfaces:
            yield from ((address, current.name) for address in interface.all4 + interface.all6)
            if interface.peer.node.name not in met:
                met.add(interface.peer.node.name)
                ahead.append(interface.peer.node)
