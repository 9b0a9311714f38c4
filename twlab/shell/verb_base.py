"""The base of the shell's verbs: the lab, names of ends, tables, usage messages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from twlab.errors import UsageError
from twlab.numerals import real
from twlab.shell.ends import Ends

if TYPE_CHECKING:
    from twlab.lab.assembly import RunningLab
    from twlab.lab.lab import Lab
    from twlab.report.ladder.numbering import Numbering
    from twlab.wire.rules import Rule


class VerbBase:
    """The base of all verbs.

    Each verb is a method ``do_NAME`` that takes the rest of its line. Its docstring is its help.

    Attributes:
        running: the running lab.
        ends: the ends of connections, by name.
        rules: name to rule of a wire: ``r1``, ``r2``, ...
    """

    running: RunningLab
    say: Callable[[str], None]

    def __init__(self, nodes: Iterable[str]) -> None:
        self.ends = Ends(nodes, lambda text: self.say(text))
        self.rules: dict[str, Rule] = {}
        self._watches: list[Rule] = []
        self._numbering: Numbering | None = None

    @property
    def lab(self) -> Lab:
        """The lab of the session."""
        return self.running.lab

    @property
    def addresses(self) -> dict[str, list[str]]:
        """Node to all its addresses, a virtual one among them."""
        nodes = self.lab.network.nodes.items()
        return {
            name: list(dict.fromkeys([node.ip4, node.ip6, *(ip for i in node.interfaces for ip in i.all4 + i.all6)]))
            for name, node in nodes
        }

    def _seconds(self, text: str, verb: Callable[[str], None]) -> float:
        try:
            seconds = real(text)
        except ValueError:
            self._usage(verb)
        if not 0 <= seconds < math.inf:
            raise UsageError(
                f"{text} is no length of time: a number of seconds, 0 or more, is wanted",
                self._help(verb),
                "bad-phrase",
            )
        return seconds

    def _nodes(self, name: str) -> Iterable[str]:
        if name:
            self.lab[name]
        return [name] if name else list(self.lab.network.nodes)

    def _table(self, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
        if not rows:
            self.say("none")
            return
        widths = [max(len(row[at]) for row in [heads, *rows]) for at in range(len(heads))]
        for row in (heads, *rows):
            self.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def _help(self, verb: Callable[[str], object]) -> str:
        return " ".join((verb.__doc__ or "").split())

    def _usage(self, verb: Callable[[str], object]) -> Any:
        raise UsageError(f"wrong arguments for {verb.__name__.removeprefix('do_')}", self._help(verb), "bad-phrase")
