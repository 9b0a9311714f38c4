"""Studies in a report: sweeps, ceilings, and other tables of measurements.

A study is one JSON file. A sweep (see `twlab.studies.sweep.table`) has ``cells``. The others have
``rows``, a ``kind`` (or the file's name says it), and facts about all rows, e.g. ``command`` and
``kernel`` (see `twlab.studies.ceiling.cases`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from twlab.errors import UsageError
from twlab.report.text import tables

# Looked for in a folder that is named.
FILES = ("ceiling.json", "alternatives.json", "sweep.json", "observe.json", "compare.json", "atlas.json")
_OUTCOMES = ("harmed", "delayed", "unharmed")
_ABOUT = ("command", "kernel", "engine", "arm", "trials", "seed")
_TITLES = {
    "ceiling": "Ceilings: connections a second",
    "observe": "Late segments of closed connections",
    "compare": "Kernels side by side: facts that differ",
}
# What a column of a file is called on the page.
_HEADINGS = {
    "name": "way",
    "what": "what is changed",
    "where": "where",
    "sustained_per_s": "sustained here, per s",
    "limited": "no more than that",
    "of_28232_ports_per_s": "of 28,232 ports, per s",
    "fails": "past it",
    "in_time_wait": "most in TIME_WAIT",
    "bytes_each": "bytes for each of them",
    "as_planned": "as predicted",
    "does_harm": "scenarios that do harm under it",
    "does_harm_without_timestamps": "... without timestamps",
    "judged": "runs that judged",
    "not_judged": "runs that could not",
    "error": "could not be measured",
    "time_wait_s": "TIME_WAIT, s",
    "delay_s": "age of the late segment, s",
}
# Columns that a reader of the page can do without.
_IN_THE_FILE = {"alternatives": ("limited", "in_time_wait", "bytes_each", "as_planned", "judged", "not_judged")}
_NEWEST = {"sweep": 2, "ceiling": 1}


@dataclass(frozen=True)
class Study:
    """A study, as read.

    Attributes:
        kind: ``sweep``, ``ceiling``, or another that the file names.
        path: the file.
        values: its content.
    """

    kind: str
    path: Path
    values: dict[str, Any]

    @property
    def title(self) -> str:
        """``How low: stale-segment``; ``Ceilings``."""
        if self.kind == "sweep":
            return f"How low is safe: {self.values['scenario']}"
        return _TITLES.get(self.kind, self.kind.capitalize())

    @property
    def about(self) -> list[tuple[str, str]]:
        """Names and values of what the file says about all rows."""
        return [(name, str(self.values[name])) for name in _ABOUT if self.values.get(name) not in (None, "")]

    @property
    def table(self) -> tables.TextTable:
        """The rows as a table.

        It lacks columns that no row has, that stand above all rows anyway, or that are too large
        for a cell.
        """
        rows = self.values["cells"] if self.kind == "sweep" else self.values["rows"]
        above = set(_ABOUT) - ({"arm"} if self.kind == "compare" else set())
        shown: list[dict[str, Any]] = [
            {key: _cell(value) for key, value in row.items() if key not in above} for row in rows
        ]
        kept = [
            key
            for key in dict.fromkeys(key for row in shown for key in row)
            if any(row.get(key) is not None for row in shown)
        ]
        kept = [key for key in kept if key not in _IN_THE_FILE.get(self.kind, ())]
        made = tables.of_rows(self.title, [{key: row.get(key) for key in kept} for row in shown])
        return replace(
            made, columns=tuple(_HEADINGS.get(key, heading) for key, heading in zip(kept, made.columns, strict=True))
        )

    @property
    def observations(self) -> list[tuple[str, list[str], list[list[str]]]]:
        """The captures that were observed.

        Of each: title, lines of the summary, and the lines of each ladder.
        """
        return [
            (str(one["title"]), list(map(str, one["lines"])), one.get("ladders", []))
            for one in self.values.get("observations", [])
        ]

    def bars(self) -> list[dict[str, Any]]:
        """Return each row of ceilings with the lengths of its bars.

        They are in per cent of the longest: what was measured, and theory.
        """
        rows = [
            {
                "name": str(row["name"]),
                "error": row["error"],
                "exact_per_s": float(row["exact_per_s"]),
                **{key: float(row[key]) if row[key] else None for key in ("mail_per_s", "sustained_per_s")},
            }
            for row in self.values["rows"]
        ]
        most = max((max(row["exact_per_s"], row["sustained_per_s"] or 0.0) for row in rows), default=1.0) or 1.0
        return [
            {
                **row,
                "measured_percent": 100 * (row["sustained_per_s"] or 0.0) / most,
                "exact_percent": 100 * row["exact_per_s"] / most,
                "off_percent": 100 * (row["sustained_per_s"] / row["exact_per_s"] - 1)
                if row["sustained_per_s"] and row["exact_per_s"]
                else None,
            }
            for row in rows
        ]

    def maps(self) -> list[dict[str, Any]]:
        """Return a sweep's maps, one for each combination of its other axes.

        The axes of a map are the length of TIME_WAIT and the age of the late segment. A sweep over
        other axes has no map.
        """
        axes = [key for key in (self.values["cells"] or [{}])[0] if key not in (*_OUTCOMES, "trials")]
        if not {"time_wait_s", "delay_s"} <= set(axes):
            return []
        others = [axis for axis in axes if axis not in ("time_wait_s", "delay_s")]
        made: dict[str, dict[str, Any]] = {}
        for row in self.values["cells"]:
            title = ", ".join(
                f"{_HEADINGS.get(axis, axis.replace('_', ' '))} {_spoken(axis, row[axis])}" for axis in others
            )
            one = made.setdefault(title, {"title": title, "cells": {}})
            one["cells"][row["time_wait_s"], row["delay_s"]] = {
                name: row[name] / row["trials"] for name in _OUTCOMES if row[name]
            }
        for one in made.values():
            one["lengths"] = sorted({length for length, _ in one["cells"]}, key=float, reverse=True)
            one["ages"] = sorted({age for _, age in one["cells"]}, key=float)
        return list(made.values())


def read(path: Path) -> Study | None:
    """Return the study in the file `path`; None: the file is not a study.

    Raises:
        UsageError: a newer twlab wrote it (``newer-result``), or it lacks what a study has
            (``broken-result``).
    """
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or not isinstance(values.get("schema"), int) or "arms" in values:
        return None
    kind = "sweep" if "cells" in values else str(values.get("kind", path.stem)) if "rows" in values else ""
    if not kind:
        return None
    if values["schema"] > _NEWEST.get(kind, 1):
        message = f"{path} has schema {values['schema']}; this twlab reads up to {_NEWEST.get(kind, 1)}"
        raise UsageError(message, "read it with a newer twlab", "newer-result")
    study = Study(kind, path, values)
    try:
        _ = study.title, study.about, study.table, study.observations
        _ = study.maps() if kind == "sweep" else study.bars() if kind == "ceiling" else None
        _ = kind == "compare" and (values["columns"], values["folders"], values["verdicts"])
    except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError) as error:
        message = f"{path} lacks what a {kind} has: {type(error).__name__}: {error}"
        raise UsageError(message, "make it again", "broken-result") from error
    return study


def _cell(value: Any) -> Any:
    """Return what a cell shows; None for a value that is too large for one."""
    if isinstance(value, list) and value and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return None if isinstance(value, list | dict) else value


def _spoken(axis: str, value: str) -> str:
    return {"0": "off", "1": "on"}.get(value, value) if axis == "timestamps" else value
