"""The report: one HTML file over many runs that needs no network.

The page names runs that cannot be read, and shows the rest. All runs are in the overview; at most
`FULL` are shown in full, first those that did not go as predicted. Ladders stop where the page
would grow past what a mail takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import TemplateError
from markupsafe import Markup

from twlab.errors import LabError, UsageError
from twlab.report import studies
from twlab.report.html import comparison
from twlab.report.html.sections import Sections
from twlab.results import files
from twlab.results.result import FILE, Result, read_result
from twlab.scenario import Verdict

FULL = 50


@dataclass
class Written:
    """A report that has been written.

    Attributes:
        path: the HTML file.
        shown: how many runs and studies it shows.
        unreadable: what is wrong with each of those that could not be read.
    """

    path: Path
    shown: int
    unreadable: list[LabError]


@dataclass
class _Row:
    """One run on the page.

    It has a line in the overview and, where it is shown in full, a section.
    """

    result: Result
    folder: Path
    anchor: str = ""
    section: Markup = field(default_factory=Markup)
    again: bool = False  # another run of the same scenario is on the page

    @property
    def ground(self) -> str:
        """The engine, kernel and sysctls that it ran on."""
        return self.result.ground


def write(paths: Sequence[Path], out: Path) -> Written:
    """Write the report over `paths` as the file `out`.

    Args:
        paths: folders of runs, their ``result.json``, folders that hold folders of runs; studies
            (see `twlab.report.studies`) and their folders.
        out: the file to write; links to captures are relative to it.

    Raises:
        UsageError: not one of `paths` can be read; the error of the first.
        CapabilityError: `out` cannot be written (``cannot-write``).
    """
    files.check_file(out)
    rows, found, unreadable = _read(_expanded(paths))
    sections = Sections(out)
    unreadable += _fill(rows, sections)
    if not rows and not found:
        raise (
            unreadable[0]
            if unreadable
            else UsageError("there are no runs to report on", "name folders that twlab run has made", "no-result")
        )
    counts = {
        verdict: sum(row.result.verdict is verdict and not row.result.is_session for row in rows) for verdict in Verdict
    }
    grounds = {row.ground for row in rows}
    names = Counter(row.result.scenario for row in rows)
    for row in rows:
        row.again = names[row.result.scenario] > 1
    full = sum(bool(row.section) for row in rows)
    shown = [(f"study-{number}", study) for number, study in enumerate(found, 1)]
    compared = {
        anchor: comparison.sections(study, sections, anchor) for anchor, study in shown if study.kind == "compare"
    }
    sessions = sum(row.result.is_session for row in rows)
    values = {
        "rows": rows,
        "studies": shown,
        "compared": compared,
        "unreadable": unreadable,
        "counts": counts,
        "sessions": sessions,
        "grounds": grounds,
        "full": full,
    }
    files.write_all({out: sections.render("page.html.j2", **values)})
    return Written(out, len(rows) + len(found), unreadable)


def _expanded(paths: Iterable[Path]) -> Iterable[Path]:
    """Yield each path once; for a folder that is no run, the runs and studies in it."""
    seen: set[Path] = set()
    for path in paths:
        inner: list[Path] = []
        if path.is_dir() and not (path / FILE).exists():
            inner = [file.parent for file in sorted(path.glob(f"*/{FILE}"))]
            inner += [
                file
                for name in studies.FILES
                for file in (path / name, *sorted(path.glob(f"*/{name}")))
                if file.is_file()
            ]
        for one in inner or (path,):
            place = (one.parent if one.name == FILE else one).resolve()
            if place not in seen:
                seen.add(place)
                yield one


def _read(paths: Iterable[Path]) -> tuple[list[_Row], list[studies.Study], list[LabError]]:
    rows: list[_Row] = []
    found: list[studies.Study] = []
    unreadable: list[LabError] = []
    for path in paths:
        try:
            if path.is_file() and (study := studies.read(path)):
                found.append(study)
                continue
            result = read_result(path)
            str(result.verdict)
            rows.append(_Row(result, path if path.is_dir() else path.parent))
        except LabError as error:
            unreadable.append(error)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            unreadable.append(_odd(path, error))
    return rows, found, unreadable


def _fill(rows: list[_Row], sections: Sections) -> list[LabError]:
    """Give rows their sections; remove unreadable ones, and return their errors."""
    unreadable: list[LabError] = []
    chosen = sorted(rows, key=lambda row: row.result.is_session or row.result.verdict is Verdict.SUPPORTED)[:FULL]
    for number, row in enumerate(chosen, 1):
        try:
            row.section = sections.run(row.result, row.folder, f"run-{number}")
            row.anchor = f"run-{number}"
        except (KeyError, TypeError, AttributeError, ValueError, TemplateError) as error:
            unreadable.append(_odd(row.folder, error))
            rows.remove(row)
    return unreadable


def _odd(path: Path, error: Exception) -> UsageError:
    return UsageError(
        f"{path} holds values that no result has: {type(error).__name__}: {error}",
        "run the scenario again",
        "broken-result",
    )
