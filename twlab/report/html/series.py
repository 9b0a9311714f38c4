"""Counts over time in an arm's evidence.

TIME_WAIT sockets, ports held, connects that failed. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twlab.results import connect_facts
from twlab.results.result import ArmResult

Points = list[tuple[float, float]]  # (at_s, value), in the order of time; a value holds until the next one
_FEW_PORTS = 5  # a plot of fewer says no more than the ladder


@dataclass(frozen=True)
class Plot:
    """Curves in one plot.

    Attributes:
        title: what is counted.
        curves: name to points.
    """

    title: str
    curves: dict[str, Points]


def of(arm: ArmResult) -> list[Plot]:
    """Return the plots of an arm that have something to show."""
    made = [
        Plot("TIME_WAIT sockets", _time_wait(arm)),
        Plot("Ports held: sockets in use and in TIME_WAIT", _ports(arm)),
        _connects(arm),
    ]
    return [plot for plot in made if any(value for points in plot.curves.values() for _, value in points)]


def _time_wait(arm: ArmResult) -> dict[str, Points]:
    if not arm.sockets:
        return _listed(
            arm.time_wait, [*(entry["at_s"] for entry in arm.transcript if entry["kind"] == "step"), arm.virtual_s]
        )
    curves = {node: _changes([(at_s, waiting) for at_s, _, waiting in rows]) for node, rows in arm.sockets.items()}
    return {node: points for node, points in curves.items() if any(count for _, count in points)}


def _listed(samples: Sequence[Mapping[str, Any]], moments_s: Sequence[float]) -> dict[str, Points]:
    """Return curves from the tables listed at each step.

    For results that have nothing better. A node without a sample at such a moment had no socket.
    """
    curves: dict[str, dict[float, float]] = {}
    for sample in samples:
        curves.setdefault(sample["node"], {})[sample["at_s"]] = sample.get("count", len(sample["sockets"]))
    for points in curves.values():
        taken = {min(moments_s, key=lambda moment: abs(moment - at)) for at in points}
        points.update({moment: 0 for moment in moments_s if moment not in taken})
    return {node: sorted(points.items()) for node, points in curves.items()}


def _ports(arm: ArmResult) -> dict[str, Points]:
    """Return the ports held by nodes that connected.

    At other nodes all sockets share a port.
    """
    callers = {entry.get("node", "") for entry in arm.transcript if connect_facts.read(entry)}
    if _loads(arm):  # the counts name no node; it is the one whose sockets wait
        callers |= {max(arm.sockets, key=lambda node: max(row[2] for row in arm.sockets[node]), default="")}
    curves = {
        node: _changes([(at_s, used + waiting) for at_s, used, waiting in rows])
        for node, rows in arm.sockets.items()
        if node in callers
    }
    return {node: points for node, points in curves.items() if max(count for _, count in points) >= _FEW_PORTS}


def _connects(arm: ArmResult) -> Plot:
    """Return the running counts of connects; an empty plot if none failed."""
    seen = [
        (entry["at_s"], "failed" if fact.error else "came about", 1)
        for entry in arm.transcript
        if (fact := connect_facts.read(entry))
    ]
    for began_s, load in _loads(arm):
        for second, (connected, failed) in enumerate(zip(load["connected"], load["failed"], strict=True), 1):
            seen += [(began_s + second, "came about", connected), (began_s + second, "failed", _total(failed))]
    counts = {"came about": 0, "failed": 0}
    curves: dict[str, Points] = {name: [(0.0, 0)] for name in counts}
    for at_s, name, count in sorted(seen):
        if count:
            counts[name] += count
            curves[name].append((min(at_s, arm.virtual_s), counts[name]))
    ends = {name: [*points, (arm.virtual_s, counts[name])] for name, points in curves.items()}
    return Plot("Connects so far", ends if counts["failed"] else {})


def _loads(arm: ArmResult) -> list[tuple[float, dict[str, Any]]]:
    """Return loads that a step counted by the second: its begin, and the counts."""
    found, began_s = [], 0.0
    for entry in arm.transcript:
        if entry["kind"] == "step":
            began_s = entry["at_s"]
        details = entry.get("details", {})
        if isinstance(details.get("connected"), list) and isinstance(details.get("failed"), list):
            found.append((began_s, details))
    return found


def _total(failed: int | dict[str, int]) -> int:
    """Return a number, or the sum of numbers by error."""
    return sum(failed.values()) if isinstance(failed, dict) else failed


def _changes(points: Points) -> Points:
    return [point for at, point in enumerate(points) if at == 0 or point[1] != points[at - 1][1]]
