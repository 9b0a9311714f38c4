"""Refuses rules that could never match: finds which addresses a wire can see.

A wire sees the addresses of nodes on one of its sides, or on both. A gateway translates what
leaves it: beyond a gateway, only the gateway's own address is seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twlab.errors import UsageError
from twlab.network.roles import Gateway
from twlab.shell.phrases import Phrase

if TYPE_CHECKING:
    from twlab.network.nodes import Interface, Node


def sides(wire: Node) -> dict[str, set[str]]:
    """Return, for each node, the sides of `wire` on which its addresses are seen.

    A side is the name of an interface of the wire. Nodes that are seen on no side are missing.
    """
    seen: dict[str, set[str]] = {}
    for side in wire.interfaces:
        met = {wire.name, side.peer.node.name}
        ahead = [side.peer]
        while ahead:
            entrance = ahead.pop()
            if entrance.node.role != "wire":
                seen.setdefault(entrance.node.name, set()).add(side.name)
            for way in _beyond(entrance):
                if way.node.name not in met:
                    met.add(way.node.name)
                    ahead.append(way)
    return seen


def check(phrase: Phrase, wire: Node) -> None:
    """Check that a segment that `phrase` means can come to `wire`.

    Raises:
        UsageError: no such segment can (``bad-phrase``).
    """
    seen = sides(wire)
    ends = {word: end[0] for word, end in (("from", phrase.source), ("to", phrase.destination)) if end}
    for word, name in ends.items():
        if name not in seen:
            gateway = _hidden_by(name, wire)
            remedy = (
                f"name the gateway: {word} {gateway}" if gateway else f"{wire.name} sees segments of: {', '.join(seen)}"
            )
            why = f"{gateway} translates its address" if gateway else "it opens no connections across it"
            raise UsageError(f"no segment {word} {name} comes to {wire.name}: {why}", remedy, "bad-phrase")
    if len(ends) == 2:
        one, other = ends.values()
        if len(seen[one] | seen[other]) < 2:
            message = f"no segment from {one} to {other} comes to {wire.name}: both are on the same side of it"
            raise UsageError(message, f"on its sides are: {_listed(seen)}", "bad-phrase")


def _beyond(entrance: Interface) -> list[Interface]:
    """Return the interfaces at which segments arrive next, with unchanged addresses.

    `entrance` is the interface at which they enter their present node.
    """
    node = entrance.node
    if not node.forwards or node.role == "endpoint":  # a proxy forwards pings, and no TCP
        return []
    if isinstance(node, Gateway) and entrance.peer.node.name == node.outside:
        return []
    return [interface.peer for interface in node.interfaces if interface is not entrance]


def _hidden_by(name: str, wire: Node) -> str:
    """Return the gateway that hides `name` from `wire`; empty if no gateway does."""
    ahead = [(interface.peer, "") for interface in wire.interfaces]
    met = {wire.name}
    while ahead:
        entrance, gateway = ahead.pop()
        node = entrance.node
        if node.name == name:
            return gateway
        if node.name in met or not node.forwards or node.role == "endpoint":
            continue
        met.add(node.name)
        if isinstance(node, Gateway) and entrance.peer.node.name == node.outside:
            gateway = gateway or node.name
        ahead += [(interface.peer, gateway) for interface in node.interfaces if interface is not entrance]
    return ""


def _listed(seen: dict[str, set[str]]) -> str:
    places = sorted({place for known in seen.values() for place in known})
    return "; ".join(", ".join(name for name, known in seen.items() if place in known) for place in places)
