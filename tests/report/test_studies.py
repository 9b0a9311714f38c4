"""What stands in a report beside runs: sweeps, ceilings and other tables, told apart from runs and
from each other.
"""

import json
from pathlib import Path

import pytest

from twlab import UsageError
from twlab.report.html import page
from twlab.report.studies import read
from twlab.studies.ceiling.cases import Case
from twlab.studies.sweep.table import SweepTable


def put(path: Path, values) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))
    return path


def sweep_in(folder: Path) -> Path:
    """A sweep as `twlab sweep` writes it: harmed where the late segment is older than TIME_WAIT,
    and in a third of the trials where it is as old.
    """
    table = SweepTable("stale-segment", 3, 1)
    for length in ("1", "10"):
        for age in ("1", "5"):
            harmed = 3 if float(age) > float(length) else 1 if age == length else 0
            table.done[("timestamps=0", f"time_wait_s={length}", f"delay_s={age}")] = {
                "harmed": harmed,
                "delayed": 3 - harmed,
                "unharmed": 0,
            }
    folder.mkdir(parents=True, exist_ok=True)
    table.write(folder / "sweep.json")
    return folder / "sweep.json"


def ceiling(**changes):
    known = Case(group="ports", time_wait_s=60.0, port_low=32768, port_high=60999).as_dict()
    row = {
        **known,
        "sustained_per_s": 468.0,
        "failing_per_s": 471.0,
        "error": "connect EADDRNOTAVAIL",
        "trials": [{"rate_per_s": 500}],
    }
    return {
        "schema": 1,
        "kind": "ceiling",
        "kernel": "6.12",
        "engine": "guest",
        "command": "twlab ceiling",
        "seed": 1,
        "rows": [row],
        **changes,
    }


def text_of(paths, folder: Path) -> str:
    return page.write(paths, folder / "report.html").path.read_text(encoding="utf-8")


def test_a_sweep_is_a_map_with_its_outcomes_in_words(tmp_path):
    """A cell says what happened, with its share where trials differ; it does not need its colour."""
    study = read(sweep_in(tmp_path))
    (found,) = study.maps()
    assert (found["title"], found["lengths"], found["ages"]) == ("timestamps off", ["10", "1"], ["1", "5"])
    text = text_of([tmp_path / "sweep.json"], tmp_path)
    assert text.count(">delayed</td>") == 2 and ">harmed</td>" in text and "harmed 33.3 %, delayed 66.7 %</td>" in text


def test_a_ceiling_stands_beside_theory(tmp_path):
    """What was measured, what ports / TIME_WAIT allow, how far they are apart, what an application
    sees past it.
    """
    text = text_of([put(tmp_path / "ceiling.json", ceiling())], tmp_path)
    assert all(words in text for words in ("470.5", "468.0", "-0.53 %", "connect EADDRNOTAVAIL", "twlab ceiling"))


def test_other_tables_are_shown_as_they_are(tmp_path):
    """Any file with rows: names are joined, and what no row has, or all have in common, is left out."""
    rows = [
        {
            "name": "tw_reuse",
            "sustained_per_s": 9000.0,
            "trials": [1],
            "error": None,
            "does_harm": ["stale-data", "late-fin"],
            "kernel": "6.12",
        }
    ]
    text = text_of([put(tmp_path / "alternatives.json", {"schema": 1, "kernel": "6.12", "rows": rows})], tmp_path)
    assert (
        ">stale-data, late-fin</td>" in text
        and text.count("6.12") == 1
        and ">error<" not in text
        and "Alternatives" in text
    )
    assert '<th scope="row">tw_reuse</th>' in text and "sustained here, per s" in text and "trials" not in text


def test_studies_are_found_in_folders_beside_runs(tmp_path):
    """In the folder that is named, and in those in it."""
    sweep_in(tmp_path / "results")
    put(tmp_path / "results" / "ceiling-1" / "ceiling.json", ceiling())
    made = page.write([tmp_path / "results"], tmp_path / "report.html")
    assert (made.shown, made.unreadable) == (2, [])


@pytest.mark.parametrize(
    ("values", "slug"),
    [
        (ceiling(schema=2), "newer-result"),
        (ceiling(rows=[{"name": "x"}]), "broken-result"),
        ({"schema": 9, "cells": []}, "newer-result"),
        ({"schema": 2, "cells": [{"time_wait_s": "1"}]}, "broken-result"),
    ],
)
def test_what_is_wrong_with_a_study_is_told(tmp_path, values, slug):
    """Newer and broken ones are named, as runs are."""
    with pytest.raises(UsageError) as caught:
        read(put(tmp_path / "study.json", values))
    assert caught.value.slug == slug and str(tmp_path / "study.json") in str(caught.value)


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"schema": 1}', '{"schema": 1, "scenario": "x", "arms": {}, "cells": []}']
)
def test_what_is_no_study_is_left_to_others(tmp_path, content):
    """Runs and foreign files are not taken for one."""
    (tmp_path / "x.json").write_text(content)
    assert read(tmp_path / "x.json") is None
