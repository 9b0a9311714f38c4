"""Reads sysctls once for each kind of node: as they begin, as they are written.

The first node of its kind is read; of later ones the values are known. To apply the baseline took
some 950 reads of sysctls an arm, a fifth of all processor time of a run. Nodes of one kind begin
alike: the same role in a namespace that was just made, in the same world, with the same sysctls
written while it was built. And they take a value alike: it is read back in the first node in which
it is written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from twlab.linux import sysctl
from twlab.world import World

if TYPE_CHECKING:
    from twlab.network import Node

_known: dict[
    tuple[object, ...], dict[str, dict[str, str | None]]
] = {}  # kind of node, name as asked for, sysctl, value
_taken: dict[tuple[object, ...], dict[tuple[str, str], str]] = {}  # kind of node, sysctl and value written, value read
_OWN = "*own"  # stands for each of a node's own interfaces


class FirstValues:
    """The sysctls of `node` as they are before its baseline is applied.

    Where a node has been given values before, or a shell that may have, each is read. The caller is
    in the node's namespace.
    """

    def __init__(self, node: Node, world: World):
        self._interfaces = [interface.name for interface in node.interfaces]
        kind = (type(node), node.role, node.tunnel, world.name, *node.written)  # the world: see `new_namespaces`
        touched = node.tuned or node.shell
        self._values = {} if touched else _known.setdefault(kind, {})
        self._taken = {} if touched else _taken.setdefault(kind, {})
        node.tuned = True

    def of(self, name: str) -> Iterator[tuple[str, str | None]]:
        """Yield each sysctl that `name` stands for, and its value.

        The value is None if this kernel lacks the sysctl. See `twlab.linux.sysctl.expand`.
        """
        known = self._values.get(name)
        if known is None:
            found = {one: sysctl.read(one) for one in sysctl.expand(name)}
            self._learn(name, found)
            yield from found.items()
        elif "*" in name:
            before, _, after = name.partition(".*.")
            own = known[_OWN]
            values = {one: value for one, value in known.items() if one != _OWN}
            values |= {f"{before}.{interface}.{after}": own for interface in self._interfaces}
            yield from sorted(values.items())
        else:
            yield from known.items()

    def write(self, name: str, value: str) -> str:
        """Write a sysctl; return the value that is then in force.

        Raises OSError, as `twlab.linux.sysctl.write` does.
        """
        before, middle, after = name.rpartition(".")
        folder, dot, interface = before.rpartition(".")
        like = f"{folder}{dot}{_OWN}{middle}{after}" if interface in self._interfaces else name
        taken = self._taken.get((like, value))
        if taken is None:
            taken = self._taken[like, value] = sysctl.write_back(name, value)
        else:
            sysctl.write(name, value)
        return taken

    def _learn(self, name: str, found: dict[str, str | None]) -> None:
        if None in found.values() and name.startswith("net.netfilter."):
            return  # a module may yet come
        if "*" not in name:
            self._values[name] = found
            return
        before, _, after = name.partition(".*.")
        own = {f"{before}.{interface}.{after}" for interface in self._interfaces}
        values = {value for one, value in found.items() if one in own}
        if own <= set(found) and len(values) == 1:  # all interfaces begin alike, as far as these tell
            self._values[name] = {_OWN: values.pop(), **{one: value for one, value in found.items() if one not in own}}
