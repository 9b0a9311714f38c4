"""Emulates tcp_tw_recycle by filtering a node's incoming segments with its rule.

For kernels that no longer have tcp_tw_recycle; the rule is in `recycle_rule.py`.

How it works. Two kinds of incoming segments reach the netfilter queue: SYNs, and segments that a
peer sends after the node's own FIN. The latter are few. Firewall rules pick them out: each outgoing
FIN adds its connection to a set.

- A SYN that meets a listener is dropped if the rule refuses it.
- A segment after the FIN is delivered. The emulation reads the socket's state before and after.
  Where the segment made the socket a mini-socket (FIN_WAIT2 or TIME_WAIT), its timestamp is the
  last that the kernel accepted, and is remembered.
- A TIME_WAIT ends after 3.5 RTO, unless a further segment re-arms it: then it lasts its full 60 s,
  as it did in the kernel.

Differences from the kernel's own: TWKilled does not count (TW counts instead). The RTO is read
before the segment that makes the mini-socket, so it lacks that segment's round-trip time. A SYN
that finds the backlog full is judged by the rule before the kernel drops it or answers with a
cookie.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twlab.linux import counters, inet_diag, nfqueue, nftables
from twlab.loop import Loop, Timer, wall_s
from twlab.results.transcript import Transcript
from twlab.segment import Flow, Segment, before, parse
from twlab.tuning.recycle_rule import RecycleCache, time_wait_s

if TYPE_CHECKING:
    from netfilterqueue import Packet

    from twlab.network import Node

_NO_RTO = (inet_diag.LISTEN, inet_diag.NEW_SYN_RECV)
_MARK = 0x7477
_MARKED = nfqueue.Segments("INPUT", f"meta mark {_MARK}", f"-m mark --mark {_MARK}")
# A connection leaves the set some time after its last FIN, when TIME_WAIT is over too. What has
# left is collected seldom: for it the kernel walks all 131,072 buckets, by default each second.
_SET = "flags dynamic,timeout; timeout 150s; gc-interval 60s; size 65535;"
_FIN = "tcp flags & fin == fin"
_RULES = f"""
    table inet twlab_recycle {{
        set closing4 {{ type ipv4_addr . inet_service . ipv4_addr . inet_service; {_SET} }}
        set closing6 {{ type ipv6_addr . inet_service . ipv6_addr . inet_service; {_SET} }}
        chain output {{
            type filter hook output priority mangle - 1;
            {_FIN} meta nfproto ipv4 update @closing4 {{ ip daddr . tcp dport . ip saddr . tcp sport }}
            {_FIN} meta nfproto ipv6 update @closing6 {{ ip6 daddr . tcp dport . ip6 saddr . tcp sport }}
        }}
        chain input {{
            type filter hook input priority mangle - 1;
            tcp flags & (syn | ack | rst) == syn meta mark set {_MARK}
            meta nfproto ipv4 ip saddr . tcp sport . ip daddr . tcp dport @closing4 meta mark set {_MARK}
            meta nfproto ipv6 ip6 saddr . tcp sport . ip6 daddr . tcp dport @closing6 meta mark set {_MARK}
        }}
    }}"""


class RecycleEmulation:
    """Emulation of tcp_tw_recycle on `node`, until `close`; `loop` serves it.

    Args:
        cookies: the node answers every SYN with a cookie, so the rule judges none.

    Attributes:
        mechanism: how segments reach it.
        cache: the peers' last timestamps.

    Raises:
        CapabilityError: the kernel has no usable netfilter queue, or no nftables.
    """

    def __init__(self, node: Node, loop: Loop, transcript: Transcript, *, cookies: bool = False):
        self._node = node
        self._loop = loop
        self._transcript = transcript
        self._cookies = cookies
        self.cache = RecycleCache()
        self._rto_s: dict[Flow, float] = {}
        self._ends: dict[Flow, tuple[Timer, int]] = {}  # when TIME_WAIT is ended, and the timestamp with which it began
        with node.inside():
            nftables.apply(_RULES)
            self.mechanism = nfqueue.install(node, _MARKED)
            self._diag = inet_diag.open_socket()
        self._tap = nfqueue.Tap(node, self._on_packet)
        loop.watch(self._tap, readable=self._tap.serve)

    def __enter__(self) -> RecycleEmulation:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop: deliver every segment from now on, and end no more sockets."""
        self._loop.forget(self._tap)
        self._tap.close()
        for timer, _ in self._ends.values():
            timer.cancel()
        self._diag.close()

    def _on_packet(self, packet: Packet) -> None:
        segment = parse(packet.get_payload(), self._loop.now_s)
        if segment is None:
            packet.accept()
            return
        met = self._socket(segment)
        if segment.flags == "S" and met and met.state == inet_diag.LISTEN and (why := self._refusal(segment)):
            packet.drop()
            counters.count(self._node, "PAWSPassive")
            counters.count(self._node, "ListenDrops")
            self._transcript.record(
                "note", f"tcp_tw_recycle, emulated, drops {segment.words()}: {why}", self._node.name
            )
            return
        if met and met.state not in _NO_RTO and met.timer != inet_diag.MINI_SOCKET:
            self._rto_s[segment.flow] = inet_diag.retransmission_timeout_s(self._diag, _id_of(segment)) or 0.0
        packet.accept()  # when this returns, TCP has processed the segment
        left = self._socket(segment)
        if left is None or left.timer != inet_diag.MINI_SOCKET:
            return
        if met is None or (met.id, met.state) != (left.id, left.state):
            self._enter(segment, left)
        elif segment.flow in self._ends and self._rearms(segment):
            self._keep_full(segment.flow)

    def _refusal(self, syn: Segment) -> str:
        if self._cookies:
            return ""
        return self.cache.refusal(syn.destination, syn.source, _tsval(syn), int(wall_s()))

    def _enter(self, segment: Segment, mini: inet_diag.Record) -> None:
        """Note that `segment` has made its connection the mini-socket `mini`."""
        now_s = int(wall_s())
        short = self.cache.remember(segment.destination, segment.source, _tsval(segment), now_s, now_s)
        if mini.state == inet_diag.TIME_WAIT:
            rto_s = self._rto_s.pop(segment.flow, None)
            self._keep_full(segment.flow)
            if short and rto_s:
                timer = self._loop.call_later(time_wait_s(rto_s), lambda: self._end(segment.flow, mini))
                self._ends[segment.flow] = (timer, _tsval(segment) or 0)

    def _rearms(self, segment: Segment) -> bool:
        """Return whether a segment that did not end the TIME_WAIT restarts its 60 s.

        It did if it has the ACK bit, or if PAWS refused it.
        """
        tsval = _tsval(segment)
        return "R" not in segment.flags and (
            "A" in segment.flags or (tsval is not None and before(tsval, self._ends[segment.flow][1]))
        )

    def _keep_full(self, flow: Flow) -> None:
        """Cancel the early end of the TIME_WAIT of `flow`."""
        if flow in self._ends:
            self._ends.pop(flow)[0].cancel()

    def _end(self, flow: Flow, mini: inet_diag.Record) -> None:
        del self._ends[flow]
        inet_diag.destroy(self._diag, [(mini.family, mini.id)])

    def _socket(self, segment: Segment) -> inet_diag.Record | None:
        """Look up the socket of this node that `segment` meets."""
        return next(iter(inet_diag.look_up(self._diag, [_id_of(segment)])), None)


def _tsval(segment: Segment) -> int | None:
    return segment.timestamp[0] if segment.timestamp else None


def _id_of(segment: Segment) -> tuple[int, bytes]:
    return inet_diag.socket_id(segment.destination, segment.destination_port, segment.source, segment.source_port)
