"""The report: one HTML file over many runs, that asks nothing of any network.

Runs that cannot be read are named in it, and the rest is still shown. All runs are in the overview; at most `FULL` are shown in full, those
that did not go as predicted first, and ladders stop where the page would grow past what a mail takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, TemplateError
from markupsafe import Markup

from twlab.errors import LabError, UsageError
from twlab.report import drawing, ladder_svg, plots, tables, words
from twlab.result import FILE, ArmResult, Result, cannot_write, read_result
from twlab.scenario import Verdict

FULL = 50
LADDERS_BYTES = 2_700_000
_MOST_ENTRIES = 200


@dataclass
class Written:
    """A report that has been made.

    Attributes:
        path: the HTML file.
        shown: how many runs it shows.
        unreadable: what is wrong with each of those that could not be read.
    """

    path: Path
    shown: int
    unreadable: list[LabError]


@dataclass
class _Row:
    """One run on the page: its line in the overview, and where it is shown in full, its section."""

    result: Result
    folder: Path
    anchor: str = ""
    section: Markup = field(default_factory=Markup)


def write(paths: Sequence[Path], out: Path) -> Written:
    """Make the report over `paths` as the file `out`.

    Args:
        paths: folders of runs, their ``result.json``, or folders that hold folders of runs.
        out: the file to write; links to captures are relative to it.

    Raises:
        UsageError: not one of `paths` is a run that can be read; the error of the first.
        CapabilityError: `out` cannot be written (``cannot-write``).
    """
    rows, unreadable = _read(_expanded(paths))
    if not rows:
        raise unreadable[0] if unreadable else UsageError("there are no runs to report on", "name folders that twlab run has made", "no-result")
    environment = Environment(loader=PackageLoader("twlab.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.globals.update(words=words, ladder_style=Markup(ladder_svg.STYLE))
    unreadable += _fill(rows, environment, out)
    counts = {verdict: sum(row.result.verdict is verdict for row in rows) for verdict in Verdict}
    text = environment.get_template("page.html.j2").render(
        rows=rows, unreadable=unreadable, counts=counts, full=sum(bool(row.section) for row in rows)
    )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise cannot_write(out, error) from error
    return Written(out, len(rows), unreadable)


def _expanded(paths: Iterable[Path]) -> Iterable[Path]:
    """Each path, or instead of a folder that only holds runs, those."""
    for path in paths:
        inner = sorted(path.glob(f"*/{FILE}")) if path.is_dir() and not (path / FILE).exists() else []
        yield from (file.parent for file in inner) if inner else (path,)


def _read(paths: Iterable[Path]) -> tuple[list[_Row], list[LabError]]:
    rows: list[_Row] = []
    unreadable: list[LabError] = []
    for path in paths:
        try:
            result = read_result(path)
            str(result.verdict)
            rows.append(_Row(result, path if path.is_dir() else path.parent))
        except LabError as error:
            unreadable.append(error)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            unreadable.append(_odd(path, error))
    return rows, unreadable


def _fill(rows: list[_Row], environment: Environment, out: Path) -> list[LabError]:
    """Give rows their sections. Takes away those that turn out to be unreadable, and returns why."""
    unreadable: list[LabError] = []
    template, room = environment.get_template("run.html.j2"), LADDERS_BYTES
    chosen = sorted(rows, key=lambda row: row.result.verdict is Verdict.SUPPORTED)[:FULL]
    for number, row in enumerate(chosen, 1):
        try:
            arms = []
            for name, arm in row.result.arms.items():
                shown = _arm(name, arm, row, out, room)
                room -= sum(piece.size for piece in shown["ladder"])
                arms.append(shown)
            row.anchor = f"run-{number}"
            row.section = Markup(template.render(row=row, result=row.result, arms=arms, network=_network(row.result), tables=tables.of(row.result)))
        except (KeyError, TypeError, AttributeError, ValueError, TemplateError) as error:
            unreadable.append(_odd(row.folder, error))
            rows.remove(row)
    return unreadable


def _arm(name: str, arm: ArmResult, row: _Row, out: Path, room: int) -> dict[str, Any]:
    """What the template shows of one arm beyond its fields."""
    capture = row.folder / arm.capture if arm.capture else None
    ladder, no_ladder = list[drawing.Piece](), "This arm left no capture."
    if capture:
        ladder, no_ladder = drawing.draw(row.folder, name)
        if sum(piece.size for piece in ladder) > room:
            ladder = [replace(piece, packed=piece.packed and None) for piece in ladder]
        if sum(piece.size for piece in ladder) > room:
            ladder, no_ladder = [], f"No room for it on this page: twlab show {row.folder} --arm {name}"
    steps_s = [entry["at_s"] for entry in arm.transcript if entry["kind"] == "step"]
    control = next((other for other in row.result.arms.values() if other.role == "control"), arm)
    return {
        "name": name,
        "arm": arm,
        "facts": list(arm.predicted) + [fact for fact in arm.observed if fact not in arm.predicted],
        "wrong": [mismatch.split(":")[0] for mismatch in arm.mismatches],
        "capture": quote(os.path.relpath(capture, out.parent)) if capture and capture.exists() else "",
        "ladder": ladder,
        "no_ladder": no_ladder,
        "plot": plots.time_wait(arm.time_wait, [*steps_s, arm.virtual_s]),
        "entries": arm.transcript[:_MOST_ENTRIES],
        "more": max(0, len(arm.transcript) - _MOST_ENTRIES),
        "counters": sorted({counter for moved in arm.counters.values() for counter in moved}),
        "differs": {
            (node, key): value
            for node, values in arm.effective.items()
            for key, value in values.items()
            if value != control.effective.get(node, {}).get(key)
        },
    }


def _network(result: Result) -> Markup:
    """The topology drawn; empty for results from before it was recorded."""
    nodes, links = result.network.get("nodes"), result.network.get("links")
    return plots.topology(nodes, links) if nodes and links else Markup("")


def _odd(path: Path, error: Exception) -> UsageError:
    return UsageError(f"{path} holds values that no result has: {type(error).__name__}: {error}", "run the scenario again", "broken-result")
