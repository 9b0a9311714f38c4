"""Makes the arrows of a ladder from the transits that a capture proves. Pure.

Sequence numbers are relative to the SYN of the connection that a segment belongs to. A copy has
the numbers of its original. Where the four-tuple has been opened again since, the copy's words say
which numbers of the present connection these are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from twlab.report.ladder.numbering import Numbering
from twlab.report.ladder.rows import Arrow
from twlab.report.ladder.transits import Transit
from twlab.results import packet_comments
from twlab.results.packet_comments import Mark
from twlab.segment import Flow, Segment, distance

# Marks of arrows for a segment that arrived, and what was done to it; the first that fits counts.
_KEPT = {
    "held": {Mark.HELD, Mark.RELEASED},
    "delayed": {Mark.DELAYING, Mark.DELAYED},
    "copied": {Mark.COPIED},
}
KEPT_S = 0.01  # a segment that a node kept for longer is drawn as two arrows: there, and on from there


def arrows(crossed: Sequence[Transit]) -> list[Arrow]:
    """Return an arrow for each transit, in their order."""
    numbering = Numbering()
    opened: dict[Flow, list[int]] = {}
    numbers: dict[tuple[object, ...], int] = {}
    alien: dict[Flow, Transit] = {}
    outside: dict[Flow, Flow] = {}  # a four-tuple behind a gateway to the one that the server knows
    made: list[Arrow] = []
    for number, transit in enumerate(crossed, 1):
        first, last = transit.sightings[0], transit.sightings[-1]
        segment = last.segment
        if segment.flags == "S" and (inner := first.segment.flow) != segment.flow:
            outside |= {inner: segment.flow, inner.reversed(): segment.flow.reversed()}
        flow = outside.get(segment.flow, segment.flow)
        if "S" in segment.flags:
            numbering.learn(flow, segment)
            if "A" not in segment.flags and segment.seq not in (seqs := opened.setdefault(flow, [])):
                seqs.append(segment.seq)
        same = segment.seq, segment.ack, segment.flags, segment.length
        mark, words = _mark(transit, numbers.get(same))
        original = made[numbers[same] - 1] if mark == "copy" and same in numbers else None
        numbers.setdefault(same, number)
        if not first.marks & packet_comments.MADE_BY_WIRE:
            numbering.learn(flow, segment)
        if mark in ("copy", "injected") and segment.length:
            alien[flow] = transit
        elif not mark and (other := alien.get(flow)) and _overlap(other.sightings[-1].segment, segment):
            words = f"the same sequence numbers as the {_mark(other, None)[0]} above"
        seq, ack = numbering.relative(flow, segment)
        if original and original.flow == flow and (original.seq, original.ack) != (seq, ack):
            words += f"; in the present connection seq {seq:,}" + (f" ack {ack:,}" if ack is not None else "")
            seq, ack = original.seq, original.ack
        seqs = opened.get(flow) or opened.get(flow.reversed()) or []
        kept_at, kept_s = _kept(transit)
        made.append(
            Arrow(
                number=number,
                packet=first.number,
                path=transit.nodes,
                left_s=first.segment.at_s,
                arrived_s=segment.at_s,
                flow=flow,
                flags=segment.flags,
                seq=seq,
                ack=ack,
                length=segment.length,
                timestamp=segment.timestamp,
                connection=len(seqs),
                mark=mark,
                words=words,
                lost=transit.lost and mark in ("dropped", "lost", "held"),
                kept_at=kept_at,
                kept_s=kept_s,
            )
        )
    return _unanswered(made)


def parted(made: Sequence[Arrow]) -> Iterator[Arrow]:
    """Yield the arrows, with two instead of one for each segment that a node kept.

    One leads to that node, the other on from there.
    """
    for arrow in made:
        if not arrow.kept_at or arrow.lost or arrow.mark not in ("held", "delayed"):
            yield arrow
            continue
        at = arrow.path.index(arrow.kept_at)
        released_s = arrow.arrived_s
        yield replace(arrow, path=arrow.path[: at + 1], part="out")
        late = f"{arrow.kept_s:.3g} s late; it set out at {arrow.left_s:.4f} s"
        yield replace(arrow, path=arrow.path[at:], part="in", left_s=released_s, words=late)


def _kept(transit: Transit) -> tuple[str, float]:
    """Return the node that kept a segment longest, and for how long.

    ("", 0.0) if that was `KEPT_S` or less.
    """
    gaps = [(other.segment.at_s - one.segment.at_s, other.interface) for one, other in pairwise(transit.sightings)]
    longest_s, interface = max(gaps, default=(0.0, ""))
    node = next((node for node in transit.nodes[1:] if interface.startswith(f"{node}-")), "")
    return (node, longest_s) if node and longest_s > KEPT_S else ("", 0.0)


def _overlap(one: Segment, other: Segment) -> bool:
    return distance(one.seq, other.end_seq) > 0 and distance(other.seq, one.end_seq) > 0 and other.length > 0


def _mark(transit: Transit, earlier: int | None) -> tuple[str, str]:
    """Return what the lab did to a transit, as an arrow's mark and in words.

    Args:
        earlier: the number of the arrow that had the same sequence numbers.
    """
    words = packet_comments.joined(sighting.comment for sighting in reversed(transit.sightings))
    marks = packet_comments.marks(words)
    if marks & packet_comments.COPIES:
        return "copy", packet_comments.with_original(words, f"#{earlier}" if earlier else "a segment")
    if marks & packet_comments.MADE_BY_LAB:
        return "injected", words
    if Mark.DROPPED in marks:
        return "dropped", words
    if transit.lost:
        return ("held", f"{words}, never released") if words else ("lost", "was not seen again")
    for mark, any_of in _KEPT.items():
        if marks & any_of:
            return mark, packet_comments.first(words)
    return ("delayed", words) if words else ("", "")


def _unanswered(made: list[Arrow]) -> list[Arrow]:
    """Return the arrows with the SYNs marked that arrived and had no answer.

    An answer comes back before the next SYN of the four-tuple.
    """
    answered_s: dict[Flow, list[float]] = {}
    syns: dict[Flow, list[float]] = {}
    for arrow in made:
        answered_s.setdefault(arrow.flow.reversed(), []).append(arrow.left_s)
        if arrow.flags == "S":
            syns.setdefault(arrow.flow, []).append(arrow.left_s)
    last: dict[tuple[str, str], Arrow] = {}  # by both addresses
    for at, arrow in enumerate(made):
        addresses = arrow.flow.source, arrow.flow.destination
        if arrow.flags == "S" and not arrow.lost:
            until_s = min((left_s for left_s in syns[arrow.flow] if left_s > arrow.left_s), default=float("inf"))
            if until_s > arrow.arrived_s and not any(
                arrow.left_s <= left_s < until_s for left_s in answered_s.get(arrow.flow, [])
            ):
                why = "; ".join(
                    part for part in (arrow.words, f"no answer{_older(arrow, last.get(addresses))}") if part
                )
                made[at] = replace(arrow, mark=arrow.mark or "unanswered", words=why)
                continue
        last[addresses] = arrow
    return made


def _older(arrow: Arrow, before: Arrow | None) -> str:
    """Compare a SYN's timestamp with that of the last segment from its address.

    Returns the words for it; empty if the SYN's is not older.
    """
    if before is None or before.timestamp is None or before.flow == arrow.flow:
        return ""
    if arrow.timestamp is None:
        return f"; without timestamp, and #{before.number} from the same address had one"
    behind = -distance(before.timestamp[0], arrow.timestamp[0])
    return f"; its timestamp is {behind:,} lower than in #{before.number} from the same address" if behind > 0 else ""
