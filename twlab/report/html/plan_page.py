"""A plan as one HTML page that needs no network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from twlab.observation import plain
from twlab.planner.hazards import KINDS
from twlab.planner.plan import Plan
from twlab.report.html.filling import environment
from twlab.results import files

_LONGEST_REM = 8
# What a field of the demand is called on the page.
_WORDS = {
    "rate_per_s": "connections a second",
    "sources": "source addresses",
    "port_low": "first port",
    "port_high": "last port",
    "time_wait_s": "TIME_WAIT in seconds",
    "life_s": "life of a connection in seconds",
    "closes_first": "who closes first:",
    "throughput": "bytes a second of a connection",
    "delay_s": "age of the oldest late segment in seconds",
    "window": "receive window in bytes",
    "late_share": "share of connections that leave a late segment",
    "loss_share": "share of segments that are lost",
}


def _plain(value: object) -> str:
    """Return a value of the demand as a person writes it."""
    if value is None or value == "":
        return "none given"
    return f"{value:,.10g}" if isinstance(value, float) else plain(value)


def write(plan: Plan, out: Path, seen: str = "", causes: Sequence[Mapping[str, Any]] = ()) -> None:
    """Write the page of `plan` as the file `out`.

    Args:
        seen: a symptom that is to be explained; empty: none.
        causes: of it, as JSON values of `twlab.diagnose.explained.Cause`.

    Raises:
        CapabilityError: it cannot be written (``cannot-write``).
    """
    files.write_all(
        {out: environment("twlab.report.html").get_template("plan.html.j2").render(**values(plan, seen, causes))}
    )


def values(plan: Plan, seen: str = "", causes: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Return what the templates show of `plan`; the rest is as in `write`."""
    named = {hazard.name for way in (plan.asked, *plan.ways) for hazard in way.hazards}
    limits = [way.ceiling_per_s for way in (plan.asked, *plan.ways) if math.isfinite(way.ceiling_per_s)]
    most = math.log1p(max(limits, default=1.0))
    ways = [
        {
            "name": way.name,
            "edge": way.edge_text(),
            "length": f"{_LONGEST_REM * min(1.0, math.log1p(way.ceiling_per_s) / most):.1f}",
            "serves": way.answer(plan.demand.rate_per_s) == "suffices" and way.advised,
            "answer": way.answer(plan.demand.rate_per_s) + ("" if way.advised else "; not advised"),
            "error": way.error,
            "change": way.change,
            "where": way.where,
            "hazards": [(hazard.name, hazard.often()) for hazard in way.hazards],
        }
        for way in (plan.asked, *plan.ways)
    ]
    return {
        "plan": plan,
        "rate": f"{plan.demand.rate_per_s:,.6g}",
        "demand": [
            (_WORDS.get(spec.name, spec.name.replace("_", " ")), _plain(getattr(plan.demand, spec.name)))
            for spec in fields(plan.demand)
        ],
        "ways": ways,
        "seen": seen,
        "causes": causes,
        "kinds": [(name, kind) for name, kind in KINDS.items() if name in named],
    }
