"""Tells from segments who ended a connection, and how."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from twlab.segment import Flow, Segment


@dataclass(frozen=True)
class Ending:
    """How a connection ended.

    Attributes:
        first: ``program`` or ``origin``: who sent the first FIN or RST; empty while it is open.
        how: ``FIN`` or ``RST``: that one.
        answer: the same of the other end, later; empty where there was none.
        at_s: of the first.
    """

    first: str = ""
    how: str = ""
    answer: str = ""
    at_s: float = 0.0

    def words(self) -> str:
        """``program FIN``; ``origin FIN, program RST``; ``open``."""
        if not self.first:
            return "open"
        other = "origin" if self.first == "program" else "program"
        return f"{self.first} {self.how}" + f", {other} RST" * (self.answer == "RST" and self.how == "FIN")


def endings(segments: Iterable[Segment], origin_port: int) -> list[Ending]:
    """Return how each connection to `origin_port` ended, in order of their beginning."""
    found: list[Ending] = []
    newest: dict[Flow, int] = {}
    for segment in segments:
        from_program = segment.destination_port == origin_port
        flow = segment.flow if from_program else segment.flow.reversed()
        number = newest.get(flow, -1)
        if number < 0 or ("S" in segment.flags and from_program and found[number].first):
            number = newest[flow] = len(found)
            found.append(Ending())
        kind = "RST" if "R" in segment.flags else "FIN" if "F" in segment.flags else ""
        who, ending = "program" if from_program else "origin", found[number]
        if kind and not ending.first:
            found[number] = Ending(who, kind, "", segment.at_s)
        elif kind and who != ending.first and not ending.answer:
            found[number] = replace(ending, answer=kind)
    return found
