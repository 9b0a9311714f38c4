"""Samples TCP and TIME_WAIT socket counts of nodes; keeps each change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from twlab.linux.sockstat import Sockstat
from twlab.loop import Loop, Timer
from twlab.results.transcript import Entry

if TYPE_CHECKING:
    from twlab.network import Node

_PERIOD_S, _LONGEST_S = 1.0, 60.0
# Samples without a change, after which they become rarer: longer than any TIME_WAIT that Linux
# makes by itself.
_PATIENCE = 150


class SocketCounts:
    """Samples the socket counts of `nodes` while it is entered.

    Every second all nodes, and at once a node that `hear` names.

    Attributes:
        on_change: called when the sample of a second differs from the one before.
        series: node to rows ``[at_s, in_use, time_wait]``, one for each change. `in_use` counts
            sockets of all states but TIME_WAIT, listening ones too; `time_wait` also the
            mini-sockets of an orphaned FIN_WAIT2. Source: /proc/net/sockstat (Linux
            net/ipv4/proc.c), sockstat6.
    """

    def __init__(self, nodes: Iterable[Node], loop: Loop):
        self.on_change: Callable[[], object] = lambda: None
        self.series: dict[str, list[list[float]]] = {}
        self._nodes = list(nodes)
        self._loop = loop
        self._files: dict[str, Sockstat] = {}
        self._timer: Timer | None = None
        self._unchanged = 0

    def __enter__(self) -> SocketCounts:
        for node in self._nodes:
            self._files[node.name] = Sockstat(node)
        self._tick()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer:
            self._timer.cancel()
        for files in self._files.values():
            files.close()
        self._files.clear()

    @property
    def time_wait(self) -> int:
        """Sockets in TIME_WAIT on all nodes together, at the last sample."""
        return int(sum(rows[-1][2] for rows in self.series.values()))

    def hear(self, entry: Entry) -> None:
        """Sample the node of a transcript entry; all nodes where it names none."""
        if self.sample(entry.node):
            if self._timer and self._unchanged >= _PATIENCE:  # the next sample is far away
                self._timer.cancel()
                self._sample_next(_PERIOD_S)
            self._unchanged = 0

    def sample(self, node: str = "") -> bool:
        """Count now, at one node or at all; return whether anything has changed."""
        changed = False
        for name in [node] if node in self._files else self._files:
            now = self._files[name].counts()
            rows = self.series.setdefault(name, [])
            if not rows or rows[-1][1:] != now:
                rows.append([round(self._loop.now_s, 3), *now])
                changed = True
        return changed

    def _tick(self) -> None:
        if self.sample():
            self._unchanged = 0
            self.on_change()
        else:
            self._unchanged += 1
        self._sample_next(min(_LONGEST_S, _PERIOD_S * 2 ** (self._unchanged // _PATIENCE)))

    def _sample_next(self, pause_s: float) -> None:
        self._timer = self._loop.call_later(pause_s, self._tick)
