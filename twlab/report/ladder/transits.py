"""Joins the sightings of a segment at several interfaces into one transit. Pure.

A node that forwards a packet shows it twice, as it comes in and as it goes out. A link between two
watched nodes is seen from both ends. So first, within each node, in and out are joined; then, over
each link, one node's out and the next node's in. Both go by fields that no router changes, in the
order of the capture at that place, and never by the clock: in the lab kernel it stands still.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from twlab.results.packet_comments import MADE_BY_WIRE, Mark
from twlab.results.pcapng import Sighting
from twlab.segment import Flow, Segment, distance


@dataclass(slots=True)
class Pass:
    """A segment at one watched node: as it came, as it went, or both."""

    node: str
    came: Sighting | None = None
    went: Sighting | None = None
    onward: Pass | None = None
    continued: bool = False


@dataclass(frozen=True, slots=True)
class Transit:
    """A segment on its way.

    Attributes:
        nodes: from the first that it is known to have been at, to the last.
        sightings: in the order of the way.
        lost: it came to its last node and never left it.
    """

    nodes: tuple[str, ...]
    sightings: tuple[Sighting, ...]
    lost: bool


def split(interface: str, nodes: Iterable[str]) -> tuple[str, str]:
    """Return an interface's node and peer; names of nodes may have hyphens."""
    known = set(nodes)
    for at, letter in enumerate(interface):
        if letter == "-" and interface[:at] in known and interface[at + 1 :] in known:
            return interface[:at], interface[at + 1 :]
    node, _, peer = interface.partition("-")
    return node, peer or node


def transits(sightings: Iterable[Sighting], nodes: Iterable[str]) -> list[Transit]:
    """Return the transits that explain `sightings`, in the order they set out.

    That is the order of the capture, which goes by cause.
    """
    names = list(nodes)
    places = {}
    seen = list(sightings)
    for sighting in seen:
        if sighting.interface not in places:
            places[sighting.interface] = split(sighting.interface, names)
    passes = _through_nodes(seen, places)
    _over_links(passes, places)
    found = [_transit(first, places) for first in passes if not first.continued]
    return sorted(found, key=lambda transit: (transit.sightings[0].segment.at_s, transit.sightings[0].number))


def next_segment(flow: Flow, crossed: Sequence[Transit]) -> Segment | None:
    """Return the segment that one end of a connection would send next, empty.

    It is as it would be where it crossed last. Only segments that this end has sent count, in that
    order; not those that the lab injected or copied. None: no segment of that end was seen.

    Args:
        flow: the connection's four-tuple, that end first.
        crossed: the transits so far, in their order.
    """
    latest: Segment | None = None
    following = 0
    for transit in crossed:
        if transit.sightings[0].marks & MADE_BY_WIRE or flow not in (
            sighting.segment.flow for sighting in transit.sightings
        ):
            continue
        segment = transit.sightings[-1].segment
        if latest is None or "S" in segment.flags or distance(following, segment.end_seq) > 0:
            following = segment.end_seq
        latest = segment
    return replace(latest, seq=following, flags="A", length=0) if latest else None


def _key(sighting: Sighting) -> tuple[object, ...]:
    segment = sighting.segment
    return sighting.ip_id, segment.seq, segment.ack, segment.flags, segment.length, segment.window


def _through_nodes(seen: Iterable[Sighting], places: dict[str, tuple[str, str]]) -> list[Pass]:
    passes: list[Pass] = []
    waiting: dict[tuple[object, ...], list[Pass]] = defaultdict(list)
    for sighting in seen:
        node = places[sighting.interface][0]
        here = (node, *_key(sighting))
        if not sighting.outbound:
            passes.append(Pass(node, came=sighting))
            if Mark.DROPPED not in sighting.marks:
                waiting[here].append(passes[-1])
        elif waiting[here] and not sighting.marks & MADE_BY_WIRE:
            # What was held or delayed is the oldest that waits; what passes at once is the newest.
            waiting[here].pop(0 if sighting.comment else -1).went = sighting
        else:
            passes.append(Pass(node, went=sighting))
    return passes


def _over_links(passes: list[Pass], places: dict[str, tuple[str, str]]) -> None:
    arriving: dict[tuple[object, ...], list[Pass]] = defaultdict(list)
    for each in passes:
        if each.came:
            arriving[(places[each.came.interface][1], each.node, *_key(each.came))].append(each)
    for each in passes:
        if each.went and (queue := arriving.get((each.node, places[each.went.interface][1], *_key(each.went)))):
            each.onward = queue.pop(0)
            each.onward.continued = True


def _transit(first: Pass, places: dict[str, tuple[str, str]]) -> Transit:
    nodes = [places[first.came.interface][1]] if first.came else []
    sightings: list[Sighting] = []
    here: Pass | None = first
    while here:
        nodes.append(here.node)
        sightings += [sighting for sighting in (here.came, here.went) if sighting]
        last, here = here, here.onward
    if last.went:
        nodes.append(places[last.went.interface][1])
    return Transit(tuple(nodes), tuple(sightings), lost=last.went is None)
