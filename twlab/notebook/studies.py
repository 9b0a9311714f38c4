"""A sweep, a plan, and observed captures, as objects that show themselves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twlab.notebook.frames import table
from twlab.notebook.shown import Shown
from twlab.observe import publish, record
from twlab.observe.findings import Findings
from twlab.observe.text import evidence, notes, pairs, summary
from twlab.planner.plan import Plan
from twlab.planner.ways import Answer, Way
from twlab.report.studies import Study
from twlab.studies.sweep.table import OUTCOMES, SweepTable

_LISTED = 10


class Sweep(Shown):
    """A grid of settings, and the outcomes of each cell.

    Attributes:
        path: its JSON file; empty if none was asked for.
    """

    template = "sweep.html.j2"

    def __init__(self, swept: SweepTable, path: Path | None = None):
        self._swept = swept
        self.path = path

    @property
    def scenario(self) -> str:
        """The scenario that was swept."""
        return self._swept.scenario

    @property
    def arm(self) -> str:
        """The arm whose settings the grid changed."""
        return self._swept.arm

    @property
    def trials(self) -> int:
        """Four-tuples in each cell."""
        return self._swept.trials

    @property
    def kernel(self) -> str:
        """Release of the kernel that TCP ran on."""
        return self._swept.kernel

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dict for each finished cell: settings, trials, harmed, delayed, unharmed."""
        return self._swept.rows()

    @property
    def failed(self) -> dict[tuple[str, ...], str]:
        """Cell to the reason why it could not be carried out."""
        return dict(self._swept.failed)

    @property
    def table(self) -> Any:
        """The rows with numbers: a DataFrame, or a list of dicts without pandas."""
        return table([{key: _number(value) for key, value in row.items()} for row in self.rows])

    def text(self) -> str:
        lines = [f"{self.scenario}, arm {self.arm}: {self.trials} trials a cell, Linux {self.kernel}"]
        for row in self.rows:
            cell = " ".join(f"{key}={value}" for key, value in row.items() if key not in (*OUTCOMES, "trials"))
            lines.append(f"{cell}  " + ", ".join(f"{row[name]} {name}" for name in OUTCOMES if row[name]))
        lines += [f"{' '.join(cell)}  {why}" for cell, why in self.failed.items()]
        return "\n".join(lines)

    def values(self) -> dict[str, Any]:
        study = Study("sweep", self.path or Path(), {"scenario": self.scenario, "cells": self.rows})
        return {"sweep": self, "maps": study.maps()}


class PlanView(Shown):
    """A plan: ports needed and left, ways out, advice.

    Attributes:
        plan: all of it, see `twlab.planner.plan.Plan`.
    """

    template = "plan.html.j2"

    def __init__(self, plan: Plan):
        self.plan = plan

    @property
    def answer(self) -> str:
        """The present way at this rate: suffices, at the edge, or does not suffice."""
        return self.plan.asked.answer(self.plan.demand.rate_per_s).value

    @property
    def advice(self) -> list[str]:
        """The recommendation, a sentence each."""
        return self.plan.advice

    @property
    def ways(self) -> Any:
        """The ways out, the present one first, a row each."""
        return table([self._row(way) for way in (self.plan.asked, *self.plan.ways)])

    def _row(self, way: Way) -> dict[str, Any]:
        answer = way.answer(self.plan.demand.rate_per_s)
        often = [f"{hazard.name} {hazard.often()}" for hazard in way.hazards if hazard.often() != "never"]
        return {
            "name": way.name,
            "edge": way.edge_text(),
            "answer": answer.value if way.advised or answer is Answer.NOT else f"{answer.value}, not advised",
            "serves": answer is not Answer.NOT and way.advised,
            "change": way.change,
            "where": way.where,
            "remains": ", ".join(often) or "nothing that is likely",
        }

    def text(self) -> str:
        rows = [self._row(way) for way in (self.plan.asked, *self.plan.ways)]
        lines = [*self.advice, "", f"{'way':<22}{'edge, /s':>20}  answer"]
        return "\n".join(lines + [f"{row['name']:<22}{row['edge']:>20}  {row['answer']}" for row in rows])

    def values(self) -> dict[str, Any]:
        rows = [self._row(way) for way in (self.plan.asked, *self.plan.ways)]
        return {"plan": self.plan, "answer": self.answer, "ways": rows}


class Observation(Shown):
    """Captures that were observed as one: late segments of closed connections.

    Attributes:
        findings: all that was found, see `twlab.observe.findings.Findings`.
    """

    template = "lines.html.j2"

    def __init__(self, findings: Findings):
        self.findings = findings

    @property
    def figures(self) -> dict[str, Any]:
        """The aggregate figures, as ``twlab observe --publish`` writes them."""
        return publish.aggregate(self.findings)

    @property
    def late(self) -> Any:
        """A row for each late packet: a DataFrame, or a list of dicts without pandas."""
        return table([record.late_as_dict(late) for late in self.findings.late])

    @property
    def faults(self) -> Sequence[str]:
        """Why a file could not be read to its end, if so."""
        return self.findings.faults

    def text(self) -> str:
        lines = [*notes(self.findings), *summary(self.figures)]
        for part in (list(pairs(self.findings, 5)), list(evidence(self.findings, _LISTED))):
            lines += ["", *part] if part else []
        return "\n".join(lines)

    def values(self) -> dict[str, Any]:
        return {"title": "Late segments of closed connections", "lines": self.text()}


def _number(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
