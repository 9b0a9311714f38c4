"""The wire: the router that every segment of interest crosses.

On it segments are watched, held, copied, delayed, reordered, dropped and injected. Each verb arms
a rule (`twlab.wire.rules`): an impairment of the segments that match. While a rule is armed, the
node's forwarded TCP segments come up through the netfilter queue. Each rule sees what the rules
armed before it let pass. A segment that passes gets the verdict "accept" and goes on in the kernel.
One that is to be released later is dropped there, and sent from here when its time has come; so
released copies and held originals leave the same way. While nothing is armed the queue is not
bound, and bulk crosses at the kernel's speed.

"The wire saw nothing" counts only if it would have seen it. So a canary crosses when the queue is
bound, and another before it is let go (`twlab.wire.canary`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from twlab import lab_kernel
from twlab.errors import EngineError, ScenarioError
from twlab.linux import nfqueue
from twlab.loop import Loop
from twlab.results.packet_comments import Mark, joined, text
from twlab.results.transcript import Transcript
from twlab.segment import Match, Segment, match, parse, without_timestamp
from twlab.wire import canary, craft, impairments, names
from twlab.wire.impairments import Release
from twlab.wire.rules import Held, Rule, RuleKind, which
from twlab.wire.sender import LinkSender, PacketSender

if TYPE_CHECKING:
    from collections.abc import Callable

    from netfilterqueue import Packet

    from twlab.network import Interface, Node
    from twlab.wire.capture import Capture
    from twlab.wire.raw_endpoint import RawEndpoint

_MOST_LISTED = 20  # segments of one rule that the transcript lists; after that, their number


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
        self._transcript = transcript
        self._capture = capture
        self._names = names.of(node)
        self._by_index = {interface.index: interface for interface in node.interfaces}
        self._sender = PacketSender(node)
        self._rules: list[Rule] = []
        self._endpoints: list[RawEndpoint] = []
        self._tap: nfqueue.Tap | None = None
        self._fault: Exception | None = None
        self._closed = self._judging = False

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything; segments that have not been released never arrive."""
        for rule in self._rules:
            rule.disarm()
            if len(rule.segments) > _MOST_LISTED and rule.comment:
                self._note(f"{rule.words} {len(rule.segments)} segments in all")
        try:
            self.settle()
        except EngineError as fault:
            self.fault = self.fault or fault
        for endpoint in self._endpoints:
            endpoint.close()
        self._sender.close()
        self._closed = True

    @property
    def unseen(self) -> int:
        """How often the queue overflowed, so that segments passed unseen.

        This happens to bulk where an ordinary user has a small net.core.rmem_max.
        """
        return self._unseen + (self._tap.overruns if self._tap else 0)

    def watch(self, predicate: Match | None = None, seen: Callable[[Segment], object] | None = None) -> Rule:
        """Keep every segment that matches as it passes, and hand it to `seen`."""

        def show(segment: Segment, now_s: float) -> list[Release]:
            if seen:
                seen(segment)
            return impairments.passing(segment, now_s)

        return self._arm(
            Rule(self, RuleKind.WATCH, "watches", impairments.Selected((predicate or match()).fresh(), show))
        )

    def hold(self, predicate: Match, count: int | None = 1) -> Held:
        """Hold the next `count` segments that match, until they are released.

        Args:
            predicate: which segments, see `twlab.match`.
            count: how many; None: all.
        """
        taken = impairments.Selected(predicate.fresh(), impairments.taking, count)
        return self._arm(Held(self, RuleKind.HOLD, "holds", taken), predicate, count)

    def copy(self, predicate: Match, count: int | None = 1) -> Held:
        """Let the next `count` segments that match pass, and keep a copy of each.

        Args:
            predicate: which segments, see `twlab.match`.
            count: how many; None: all.
        """
        passed = impairments.Selected(predicate.fresh(), impairments.passing, count)
        return self._arm(Held(self, RuleKind.COPY, "copies", passed), predicate, count)

    def drop(self, predicate: Match, count: int | None = None) -> Rule:
        """Drop the next `count` segments that match (None: all)."""
        dropped = impairments.Selected(predicate.fresh(), impairments.Drop(), count)
        return self._arm(Rule(self, RuleKind.DROP, "drops", dropped), predicate, count)

    def delay(self, predicate: Match, delay_s: float, count: int | None = None) -> Rule:
        """Deliver the next `count` segments that match `delay_s` later, in their order.

        Args:
            predicate: which segments, see `twlab.match`.
            delay_s: seconds.
            count: how many; None: all.
        """
        act = impairments.Selected(predicate.fresh(), impairments.Delay(delay_s), count)
        return self._arm(Rule(self, RuleKind.DELAY, f"delays by {delay_s:g} s", act), predicate, count)

    def duplicate(self, predicate: Match, after_s: float = 0.0, count: int | None = 1) -> Rule:
        """Deliver the next `count` segments that match twice, `after_s` apart.

        Args:
            predicate: which segments, see `twlab.match`.
            after_s: seconds until each arrives again.
            count: how many; None: all.
        """
        act = impairments.Selected(predicate.fresh(), impairments.Duplicate(after_s), count)
        return self._arm(Rule(self, RuleKind.DUPLICATE, f"duplicates after {after_s:g} s", act), predicate, count)

    def reorder(self, predicate: Match, behind: int = 1, count: int | None = 1) -> Rule:
        """Deliver the next segment that matches after `behind` later ones of its flow.

        Args:
            predicate: which segments, see `twlab.match`.
            behind: segments that overtake it.
            count: how often; None: without end.
        """
        act = impairments.Reorder(predicate.fresh(), behind, count)
        rule = Rule(self, RuleKind.REORDER, f"puts behind {behind} later", act, behind=behind)
        return self._arm(rule, predicate, count)

    def impair(
        self, predicate: Match, impairment: impairments.Impairment, words: str = "impairs", count: int | None = None
    ) -> Rule:
        """Apply any impairment to the next `count` segments that match.

        Args:
            predicate: which segments, see `twlab.match`.
            impairment: see `twlab.wire.impairments`.
            words: what it does, in the third person, for the transcript.
            count: how many; None: all.
        """
        craft.load()  # it may craft a segment while another one waits
        act = impairments.Selected(predicate.fresh(), impairment, count)
        return self._arm(Rule(self, RuleKind.IMPAIR, words, act), predicate, count)

    def release(self, held: Held, *, without_timestamp: bool = False) -> None:
        """Deliver everything that `held` has, now and back to back.

        A second release makes duplicates.

        Args:
            without_timestamp: remove the timestamp option, as a middlebox does.
        """
        held.stop()
        for segment in held.segments:
            held.released_at_s.append(self._release(segment, held.kind, without_timestamp))

    def inject(self, packet: Segment | bytes, into: Interface | None = None) -> float:
        """Put an IP packet onto a link, as if it had come all the way.

        Args:
            packet: a segment, crafted or seen; or the bytes of an IP packet, sent unchanged.
            into: the interface at which it arrives, anywhere in the network; None: it leaves the
                wire towards its destination.

        Returns:
            When it was sent, in seconds.

        Raises:
            ScenarioError: the wire has no route to the destination, or the bytes do not show it
                (``no-route``).
        """
        segment = parse(packet, self.loop.now_s) if isinstance(packet, bytes) else packet
        raw = packet if isinstance(packet, bytes) else packet.raw
        if into:
            link = self._sender.at(into)
        elif segment:
            link = self._sender.confirmed(segment.destination)
        else:
            raise ScenarioError(
                "only a whole TCP segment can be routed", "name the interface where it arrives: into=...", "no-route"
            )
        at_s = self._send(link, raw, text(Mark.INJECTED))
        self._note(
            f"injects {segment.words(self._names) if segment else f'{len(raw)} bytes'}"
            + (f" into {into.name}" if into else "")
        )
        return at_s

    def craft(self, like: Segment | None = None, **fields: Any) -> Segment:
        """Make a segment with Scapy, at the present time; it is not sent.

        See `twlab.wire.craft.craft`.
        """
        return craft.craft(self.loop.now_s, like=like, **fields)

    def endpoint(self, node: Node, port: int, *, address: str | None = None, family: int = 4) -> RawEndpoint:
        """Claim an endpoint at `node` for which no kernel answers.

        It lasts until it or the wire is closed, see `twlab.wire.raw_endpoint.RawEndpoint`.
        """
        from twlab.wire.raw_endpoint import RawEndpoint

        endpoint = RawEndpoint(
            node, port, self.loop, self._transcript, self._capture, address=address, family=family, names=self._names
        )
        self._endpoints.append(endpoint)
        return endpoint

    def settle(self) -> None:
        """Unbind the queue if nothing is armed any more.

        Not while a packet of it waits for its verdict: `_serve` does so after that.

        Raises:
            EngineError: the queue no longer handed up what crossed (``blind-lab``).
        """
        if self._tap and not self._judging and not any(rule.armed for rule in self._rules):
            self.loop.forget(self._tap)
            sees = self._sees_canaries(self._tap)
            self._tap.close()
            if self._tap.overruns:
                self._unseen += self._tap.overruns
                self._note(f"could not keep up {self._tap.overruns} times: segments passed unseen")
            self._tap = None
            if not sees:
                raise canary.blind(f"the wire at {self.node.name} no longer saw what crossed it")

    def _arm(self, rule: Any, predicate: Match | None = None, count: int | None = None) -> Any:
        if not self.mechanism:
            self.mechanism = nfqueue.install(self.node)
        self._rules = [known for known in self._rules if known.armed or len(known.segments) > _MOST_LISTED]
        self._rules.append(rule)
        if predicate:
            self._note(f"from now on {rule.words} {which(count)}: {self._named(predicate)}")
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
            what = f"the queue of {self.node.name} overflowed, and the rule that {watch.words} missed segments"
            remedy = lab_kernel.or_guest("raise net.core.rmem_max, or run as root")
            self.fault = self.fault or EngineError(what, remedy, "blind-lab")
        self.settle()
        if self._fault:
            fault, self._fault = self._fault, None
            raise fault

    def _sees_canaries(self, tap: nfqueue.Tap) -> bool:
        """Send canaries across the node; return whether the queue hands up all of them."""
        expected = self._canaries + canary.CROSSING

        def seen() -> bool:
            tap.serve()
            return self._canaries >= expected

        return canary.crosses(self.node, lambda interface, packet: self._sender.at(interface).send(packet), seen)

    def _on_packet(self, packet: Packet) -> None:
        self._judging = True
        try:
            self._judge(packet)
        except Exception as fault:  # it cannot pass through the queue's C library; `_serve` raises it
            self._fault = fault
        finally:
            self._judging = False

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
            met = len(rule.segments)
            releases = [later for release in releases for later in rule(release.segment, release.at_s)]
            if len(rule.segments) > met and rule.comment:
                comments.append(rule.comment)
                if len(rule.segments) <= _MOST_LISTED:
                    self._note(f"{rule.words} {segment.words(self._names)}")
        if comments and self._capture and packet.indev in self._by_index:
            self._capture.comment_last(self._by_index[packet.indev], segment.raw, joined(comments))
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
            if is_copy:
                comment = text(Mark.COPY_LATE, came_s=segment.at_s, late_s=late_s)
            else:
                comment = text(Mark.DELAYED, late_s=late_s)
            self._send(self._sender.confirmed(segment.destination), segment.raw, comment)

    def _release(self, segment: Segment, kind: RuleKind, stripped: bool) -> float:
        leaving = without_timestamp(segment) if stripped else segment
        came_s, now_s = segment.at_s, self.loop.now_s
        if kind is RuleKind.HOLD:
            comment = text(Mark.RELEASED, late_s=now_s - came_s, stripped=stripped)
        else:
            comment = text(Mark.COPY_RELEASED, came_s=came_s, at_s=now_s, stripped=stripped)
        at_s = self._send(self._sender.confirmed(segment.destination), leaving.raw, comment)
        self._note(f"releases {leaving.words(self._names)}")
        return at_s

    def _send(self, link: LinkSender, raw: bytes, comment: str) -> float:
        if self._capture:
            self._capture.send(link, raw, comment)
        else:
            link.send(raw)
        return self.loop.now_s

    def _named(self, predicate: Match) -> str:
        return " ".join(self._names.get(word, word) for word in str(predicate).split(" "))

    def _note(self, sentence: str) -> None:
        self._transcript.record("wire", sentence, self.node.name)
