"""Sequence numbers relative to the connection that a segment belongs to. Pure.

A four-tuple may be opened again and again, with new first numbers each time. A segment belongs to
the latest connection whose numbers, as far as they have been seen, it continues or lies among. A
segment of an earlier connection may come late.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from twlab.segment import Flow, Segment, distance

_AHEAD = 1 << 20  # so far from what has been seen of a connection a segment may still be its: a window


@dataclass(slots=True)
class _Opening:
    """The numbers of one direction of a connection.

    The first, and the one after the last that was seen.
    """

    first: int
    end: int


@dataclass(slots=True)
class Numbering:
    """The connections of every four-tuple, learnt segment by segment."""

    _opened: dict[Flow, list[_Opening]] = field(default_factory=dict)

    def learn(self, flow: Flow, segment: Segment) -> None:
        """Take note of a segment that the sender of `flow` has sent.

        Do not pass one that the lab made or repeated.
        """
        known = self._opened.setdefault(flow, [])
        if "S" in segment.flags:
            if all(opening.first != segment.seq for opening in known):
                known.append(_Opening(segment.seq, segment.end_seq))
        elif (opening := self._of(flow, segment.seq)) and distance(opening.end, segment.end_seq) > 0:
            opening.end = segment.end_seq

    def relative(self, flow: Flow, segment: Segment) -> tuple[int, int | None]:
        """Return a segment's sequence and acknowledgement number in its connection.

        A number is 0 where no SYN of its direction has been seen; the second is None without the
        flag ACK.
        """
        own, peer = self.origins(flow, segment)
        return distance(own, segment.seq), distance(peer, segment.ack) if "A" in segment.flags else None

    def origins(self, flow: Flow, segment: Segment) -> tuple[int, int]:
        """Return the first numbers, sender's and receiver's, of a segment's connection."""
        own, peer = self._of(flow, segment.seq), self._of(flow.reversed(), segment.ack)
        return own.first if own else segment.seq, peer.first if peer else segment.ack

    def _of(self, flow: Flow, number: int) -> _Opening | None:
        known = self._opened.get(flow, [])
        for opening in reversed(known):
            if _apart(opening, number) <= _AHEAD:
                return opening
        return min(reversed(known), key=lambda opening: _apart(opening, number), default=None)


def _apart(opening: _Opening, number: int) -> int:
    """Return how far a number lies from those seen of a connection; 0 among them."""
    if distance(opening.first, number) >= 0 and distance(number, opening.end) >= 0:
        return 0
    return min(abs(distance(opening.first, number)), abs(distance(opening.end, number)))
