"""The transcript of one arm: what was done, when, in words.

Every verb of the lab records itself here. The transcript is a list of entries in the order of
time. A failing scenario prints it as a numbered story up to the step that failed; `result.json`
keeps it; the report and the ladder show it beside the segments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

EntryKind = Literal["step", "verb", "wire", "note", "check"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done or seen.

    Attributes:
        at_s: seconds since the arm began.
        kind: ``step`` (the scenario's own words), ``verb`` (what a node did), ``wire`` (what the
            wire did to a segment), ``note`` (what the lab found), ``check`` (a premise that was
            tested).
        text: one sentence.
        node: the node that did it; empty for steps.
        details: figures for the report, JSON values only.
    """

    at_s: float
    kind: EntryKind
    text: str
    node: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return it as it stands in a result; without a node or details where it has none."""
        kept: dict[str, Any] = {"at_s": self.at_s, "kind": self.kind, "text": self.text}
        if self.node:
            kept["node"] = self.node
        if self.details:
            kept["details"] = dict(self.details)
        return kept


class Transcript:
    """The entries of one arm.

    Args:
        now_s: returns the seconds since the arm began.
        keeps: the kinds of entries that are kept; None: all.
    """

    def __init__(self, now_s: Callable[[], float], keeps: frozenset[EntryKind] | None = None):
        self._now_s = now_s
        self._keeps = keeps
        self._listeners: list[Callable[[Entry], object]] = []
        self.entries: list[Entry] = []

    def subscribe(self, listener: Callable[[Entry], object]) -> Callable[[], None]:
        """Call `listener` with every entry made from now on; return what ends that.

        Listeners are called in the order in which they subscribed.
        """
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def record(self, kind: EntryKind, text: str, node: str = "", **details: Any) -> None:
        """Add an entry, stamped with the time, and pass it to every listener."""
        if self._keeps is not None and kind not in self._keeps:
            return
        entry = Entry(round(self._now_s(), 6), kind, text, node, details)
        self.entries.append(entry)
        for listener in list(self._listeners):
            listener(entry)

    def withdraw_last(self, text: str) -> None:
        """Remove the last entry if it is the step `text` and nothing followed."""
        if self.entries and (self.entries[-1].kind, self.entries[-1].text) == ("step", text):
            self.entries.pop()

    def story(self) -> Iterator[str]:
        """Yield the entries as numbered lines, see `story`."""
        return story(self.entries)


def story(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield entries as numbered lines, steps flush left, their events indented."""
    number = 0
    for entry in entries:
        if entry.kind == "step":
            number += 1
            yield f"{number:2}. {entry.text}"
        else:
            node = f"{entry.node}: " if entry.node else ""
            yield f"      {entry.at_s:9.3f} s  {node}{entry.text}"
