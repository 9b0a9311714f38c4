"""Merges the packets of several nodes into one order: by time, then by cause.

In the lab kernel the clock stands still while things happen, so a whole exchange may bear one
time. Two rules give the order then. Within a node, packets stay in the order in which it saw them.
And a packet leaves one end of a link before it arrives at the other; nodes that are not watched
may forward it in between.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Sequence
from typing import NamedTuple


class Sighted(NamedTuple):
    """A packet at one node.

    Attributes:
        at_ns: when.
        sent: the node sent it; otherwise received it.
        place: what it was sent into or came out of, the same at all its ends: a link, or the nodes
            beyond.
        packet: what does not change on the way, the same at every sighting.
    """

    at_ns: int
    sent: bool
    place: Hashable
    packet: Hashable


def merged(nodes: Sequence[Sequence[Sighted]]) -> list[tuple[int, int]]:
    """Return the order of all sightings: (index of the node, index in its sequence).

    Args:
        nodes: for each node what it has seen, in its order.
    """
    causes = _causes(nodes)
    following = [0] * len(nodes)
    order: list[tuple[int, int]] = []
    left = sum(len(seen) for seen in nodes)
    while len(order) < left:
        heads = [(seen[following[node]].at_ns, node) for node, seen in enumerate(nodes) if following[node] < len(seen)]
        ready = [head for head in heads if _is_over(causes.get((head[1], following[head[1]])), following)]
        node = min(ready or heads)[1]
        order.append((node, following[node]))
        following[node] += 1
    return order


def _is_over(cause: tuple[int, int] | None, following: Sequence[int]) -> bool:
    return cause is None or following[cause[0]] > cause[1]


def _causes(nodes: Sequence[Sequence[Sighted]]) -> dict[tuple[int, int], tuple[int, int]]:
    """Map each packet that came from another watched node to where it was sent."""
    sent: dict[Hashable, deque[tuple[int, int]]] = defaultdict(deque)
    for node, index, sighting in _in_time(nodes):
        if sighting.sent:
            sent[sighting.place, sighting.packet].append((node, index))
    causes = {}
    for node, index, sighting in _in_time(nodes):
        if not sighting.sent and (ways := sent.get((sighting.place, sighting.packet))):
            at, number = next(((n, i) for n, i in ways if n != node), (node, 0))
            if at != node and nodes[at][number].at_ns <= sighting.at_ns:
                ways.remove((at, number))
                causes[node, index] = (at, number)
    return causes


def _in_time(nodes: Sequence[Sequence[Sighted]]) -> list[tuple[int, int, Sighted]]:
    every = [(node, index, sighting) for node, seen in enumerate(nodes) for index, sighting in enumerate(seen)]
    return sorted(every, key=lambda each: each[2].at_ns)
