"""A grid of settings with the outcome of every cell.

`twlab.studies.sweep.fill` fills it."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twlab.errors import UsageError
from twlab.results import files
from twlab.world import PINNED

SCHEMA = 2
IDENTITY = ("scenario", "arm", "steps", "axes", "trials", "seed", "world")  # and the kernel, once it is known
OUTCOMES = ("harmed", "delayed", "unharmed")
DEFAULT_GRID = ("timestamps=0,1", "time_wait_s=1,2,5,10,15,30,60", "delay_s=0.5,1,2,5,10,20,40,80")
_MANY = 16  # cells of a part, from which a second boot costs less than it may save
Cell = tuple[str, ...]  # ``KEY=VALUE``, one for each axis of the grid


def cells(axes: Sequence[str]) -> list[Cell]:
    """Return every combination of axes ``KEY=VALUE,VALUE...``.

    An axis that is not given is that of `DEFAULT_GRID`.

    Raises:
        UsageError: not of that form, or an axis given twice (``bad-grid``).
    """
    values: dict[str, list[str]] = {}
    for axis in axes:
        key, sign, text = axis.partition("=")
        listed = [value.strip() for value in text.split(",")]
        if not sign or not key or not all(listed) or key in values or len(set(listed)) != len(listed):
            raise UsageError(
                f"--grid {axis} is not an axis: expected KEY=VALUE,VALUE, once for each key",
                "e.g. --grid time_wait_s=1,5,10",
                "bad-grid",
            )
        values[key] = listed
    for axis in DEFAULT_GRID:
        key, _, text = axis.partition("=")
        values.setdefault(key, text.split(","))
    order = [axis.partition("=")[0] for axis in DEFAULT_GRID]
    keys = sorted(values, key=lambda key: order.index(key) if key in order else -1)
    return list(itertools.product(*([f"{key}={value}" for value in values[key]] for key in keys)))


def deal(wanted: Sequence[Cell], jobs: int, most_cells: int = 0) -> list[list[Cell]]:
    """Deal the cells into parts, one boot each.

    There is one part for each of `jobs`; two if they have many cells, or on a cluster, so that none
    waits long for the last.

    Args:
        wanted: the cells.
        jobs: how many parts are worked on side by side.
        most_cells: on a cluster, the most that a part may have; 0: this machine alone.
    """
    least = jobs * 2 if most_cells or len(wanted) >= jobs * _MANY else jobs
    parts = min(len(wanted), max(least, math.ceil(len(wanted) / most_cells) if most_cells else 0))
    return [list(wanted[number::parts]) for number in range(parts)]


@dataclass
class SweepTable:
    """The outcomes of a sweep's cells.

    A table is continued only by a sweep that is the same in every `IDENTITY`.

    Attributes:
        scenario, arm: what every cell was run as.
        trials, seed: of every cell.
        axes: the settings that the grid varies.
        steps: digest of the scenario's file.
        world: what nodes started from, see `twlab.world`.
        kernel: release of the kernel that TCP ran on; empty until the first cell is done.
        done: cell to its observation: `OUTCOMES`, which add up to `trials`, and other facts that
        the
            scenario reports.
        failed: cell to why it could not be carried out; tried again when the sweep is continued.
    """

    scenario: str
    trials: int
    seed: int
    arm: str = "treatment"
    axes: tuple[str, ...] = tuple(axis.partition("=")[0] for axis in DEFAULT_GRID)
    steps: str = ""
    world: str = PINNED.name
    kernel: str = ""
    done: dict[Cell, dict[str, Any]] = field(default_factory=dict)
    failed: dict[Cell, str] = field(default_factory=dict)

    def record(self, cell: Cell, result: dict[str, Any]) -> None:
        """Record the result of an arm."""
        observed, kernel = result.get("observed"), result.get("kernel", "")
        self.kernel = self.kernel or kernel
        if kernel and kernel != self.kernel:
            self.failed[cell] = f"ran on Linux {kernel}, the other cells on {self.kernel}"
        elif not result.get("error") and observed and sum(observed.get(name, 0) for name in OUTCOMES) == self.trials:
            self.done[cell] = observed
            self.failed.pop(cell, None)
        else:
            self.failed[cell] = (result.get("error") or {}).get("message", f"observed {observed}")

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each finished cell: settings, trials, and counts of outcomes."""
        return [
            {
                **dict(pair.split("=", 1) for pair in cell),
                "trials": self.trials,
                **{name: self.done[cell][name] for name in OUTCOMES},
            }
            for cell in sorted(self.done, key=_in_order)
        ]

    def write(self, path: Path) -> None:
        """Write `path` (JSON) and the same as CSV beside it, each whole or not at all.

        Raises:
            CapabilityError: they cannot be written (``cannot-write``).
        """
        rows = self.rows()
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        values = {"schema": SCHEMA, **self._identity(), "kernel": self.kernel, "cells": rows}
        files.write_all({path: json.dumps(values, indent=1) + "\n", path.with_suffix(".csv"): text.getvalue()})

    def resume(self, path: Path) -> None:
        """Take over what an earlier sweep has written to `path`, if it is there.

        Raises:
            UsageError: the file is no sweep (``broken-sweep``), or one of something else
                (``other-sweep``).
        """
        try:
            values = json.loads(path.read_text())
            done = dict(map(_finished, values["cells"]))
            other = {key: values.get(key) for key in self._identity()}
            other["world"] = values.get("world", PINNED.name)
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"{path} is no sweep of twlab: {error}", "name another file with --out", "broken-sweep"
            ) from error
        here = json.loads(json.dumps(self._identity()))
        if self.kernel and values.get("kernel"):
            other["kernel"], here["kernel"] = values["kernel"], self.kernel
        if values.get("schema") != SCHEMA:
            other["schema"], here["schema"] = values.get("schema"), SCHEMA
        if differing := [f"{key} {other[key]}, not {here[key]}" for key in here if other[key] != here[key]]:
            message = f"{path} holds another sweep: {'; '.join(differing)}"
            raise UsageError(message, "continue it with the same, or name another file with --out", "other-sweep")
        self.kernel = values.get("kernel", "")
        self.done |= done

    def _identity(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in IDENTITY}


def _finished(row: dict[str, Any]) -> tuple[Cell, dict[str, Any]]:
    """Return the cell of a row in a file, and its counts; raises KeyError, TypeError, ValueError."""
    settings = {key: str(value) for key, value in row.items() if key not in (*OUTCOMES, "trials")}
    counts = {name: row[name] for name in OUTCOMES}
    if any(type(count) is not int for count in counts.values()) or sum(counts.values()) != row["trials"]:
        raise ValueError(f"{row} is no row of a sweep")
    return tuple(f"{key}={value}" for key, value in settings.items()), counts


def _in_order(cell: Cell) -> list[tuple[str, float, str]]:
    def number(text: str) -> float:
        try:
            return float(text)
        except ValueError:
            return 0.0

    return [(key, number(value), value) for key, _, value in (pair.partition("=") for pair in cell)]
