"""The sections of a comparison: arms that differ, with ladders side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from twlab.errors import LabError
from twlab.report.html.sections import Sections
from twlab.report.studies import Study
from twlab.results.result import read_result

MOST = 40  # arms that are shown with their ladders; changes come first


@dataclass(frozen=True)
class Differing:
    """An arm that differs.

    Attributes:
        scenario, arm: of it.
        rows: the facts.
        anchor: of its section.
        section: empty for those past `MOST`.
    """

    scenario: str
    arm: str
    rows: list[dict[str, Any]]
    anchor: str
    section: Markup


def sections(study: Study, page: Sections, anchor: str) -> list[Differing]:
    """Return each arm that differs, changes first, at most `MOST` with a section."""
    arms: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in study.values["rows"]:
        arms.setdefault((row["scenario"], row["arm"]), []).append(row)
    by_interest = sorted(arms.items(), key=lambda item: all(row["decided"] == "chance" for row in item[1]))
    names = [str(column["name"]) for column in study.values["columns"]]
    made = []
    for number, ((scenario, arm), rows) in enumerate(by_interest, 1):
        place, section = f"{anchor}-{number}", Markup()
        if number <= MOST:
            panels = list(_panels(study, page, scenario, arm))
            _mark_alike(panels, rows)
            about = {"scenario": scenario, "arm": arm, "rows": rows, "names": names, "panels": panels}
            section = page.render("comparison.html.j2", anchor=place, **about)
        made.append(Differing(scenario, arm, rows, place, section))
    return made


def _mark_alike(panels: list[dict[str, Any]], rows: list[dict[str, Any]]) -> None:
    """Put ``alike`` into each panel: the columns after it that observe the same.

    Of these, the first alone stands beside the others; each has ``after``, which names it.
    """
    first: dict[str, dict[str, Any]] = {}
    for panel in panels:
        seen = repr([row[panel["column"]] for row in rows])
        panel["alike"], panel["after"] = [], ""
        if not panel["no_ladder"] and first.setdefault(seen, panel) is not panel:
            panel["after"] = first[seen]["column"]
            first[seen]["alike"].append(panel["column"])


def _panels(study: Study, page: Sections, scenario: str, arm: str) -> Iterator[dict[str, Any]]:
    """Yield what the page shows of the arm in each column that has left a folder."""
    for column in study.values["columns"]:
        place = study.values["folders"].get(column["name"], {}).get(scenario)
        folder = study.path.parent / (place or "")
        try:
            result = read_result(folder) if place else None
        except LabError:
            result = None
        about = {"column": column["name"], "kernel": column["kernel"]}
        if result is None or arm not in result.arms:
            yield {**about, "no_ladder": "This column left no folder."}
        else:
            yield {**about, **page.arm(arm, result.arms[arm], result, folder)}
