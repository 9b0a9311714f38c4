"""Names for addresses, in what the wire and the capture say."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twlab.network import Node


def of(node: Node) -> dict[str, str]:
    """Return the name by address of every node that links lead to from `node`."""
    found: dict[str, str] = {}
    met, ahead = {node.name}, [node]
    while ahead:
        current = ahead.pop()
        for interface in current.interfaces:
            found.update((address, current.name) for address in interface.all4 + interface.all6)
            if interface.peer.node.name not in met:
                met.add(interface.peer.node.name)
                ahead.append(interface.peer.node)
    return found
