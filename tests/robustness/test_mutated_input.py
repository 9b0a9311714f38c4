"""Mutated inputs for every reader: a result, or an error of twlab's with a message and a remedy.

Each reader gets variants of valid files. TWLAB_MUTATIONS sets how many of each; 2,000 were tried.
Captures for `twlab observe` and texts for `twlab diagnose` have tests of their own, in their
folders.
"""

import json
import os
import random
import shutil
from dataclasses import fields
from pathlib import Path

import pytest
from conftest import ROOT
from mutations import of_bytes, of_json, of_text

from twlab.catalogue import find_scenario
from twlab.errors import LabError, UsageError
from twlab.grading.assignment import load_assignment
from twlab.grading.gradebook import Gradebook
from twlab.grading.submission import read_submissions
from twlab.network import load_topology
from twlab.observe import publish
from twlab.observe.reading import observe
from twlab.observe.text import summary
from twlab.overrides import Overrides
from twlab.planner.demand import Demand
from twlab.planner.plan import make
from twlab.report import studies
from twlab.report.html import page
from twlab.report.ladder import ladder
from twlab.report.text.show import lines
from twlab.results.pcapng import read_capture
from twlab.studies.ceiling import cases
from twlab.studies.progress import Progress
from twlab.studies.sweep.table import SweepTable, cells

COUNT = int(os.environ.get("TWLAB_MUTATIONS", "60"))
SEED = 20261128
RUN = ROOT / "tests" / "data" / "runs" / "stale-data"
SCENARIO = ROOT / "twlab" / "scenarios" / "stale_data.py"
FINDINGS = ROOT / "docs" / "findings"
HANDOUTS = ROOT / "docs" / "handouts"
SWEEP = json.dumps(
    {
        "schema": 2, "scenario": "stale-segment", "arm": "treatment", "steps": "",
        "axes": ["timestamps", "time_wait_s"], "trials": 10, "seed": 1, "kernel": "7.3",
        "cells": [{"timestamps": "0", "time_wait_s": "5", "delay_s": "2", "trials": 10, "harmed": 0, "delayed": 10,
                   "unharmed": 0}],
    }
)  # fmt: skip
MARK = {"question": "a", "kind": "number", "points": 1.0, "of": 1.0, "claimed": "5", "shown": "5", "remark": ""}
GRADES = json.dumps(
    {"schema": 1, "title": "a", "basis": {"seed": 1}, "students": [
        {"id": name, "name": name, "digest": digest, "points": 1, "of": 1, "by_hand": 0, "numbers": {"n": 3},
         "marks": [MARK], "reasons": {}} for name, digest in (("ada", "d1"), ("bob", "d2"))]}
)  # fmt: skip
CEILING = json.dumps(
    {"schema": 1, "kind": "ceiling", "command": "twlab ceiling", "kernel": "7.3", "rows": [
        {"name": name, "mail_per_s": 500.0, "exact_per_s": 470.5, "sustained_per_s": 466.0, "error": "EADDRNOTAVAIL"}
        for name in ("linux", "wide")]}
)  # fmt: skip
AGGREGATE = json.dumps(publish.aggregate(observe([str(RUN / "treatment.pcapng")])))
UNFINISHED = json.dumps({"schema": 1, "identity": {"rate": 1}, "kernel": "7.3", "done": {"0": {"x": 1}}})


def _shown(text: str, folder: Path) -> None:
    run = folder / "run"
    (run / "result.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    list(lines(run, [], unfold=False, width=120, colour=False))


def _reported(text: str, folder: Path) -> None:
    run = folder / "run"
    (run / "result.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    page.write([run], folder / "report.html")


def _capture(data: bytes, folder: Path) -> None:
    (folder / "run" / "treatment.pcapng").write_bytes(data)
    read_capture(folder / "run" / "treatment.pcapng")
    ladder.read(folder / "run", "treatment")


def _study(text: str, folder: Path) -> None:
    (folder / "study.json").write_text(text)
    if studies.read(folder / "study.json"):
        page.write([folder / "study.json"], folder / "report.html")


def _sweep(text: str, folder: Path) -> None:
    (folder / "sweep.json").write_text(text)
    table = SweepTable("stale-segment", trials=10, seed=1, axes=("timestamps", "time_wait_s"))
    table.resume(folder / "sweep.json")
    table.write(folder / "sweep.json")


def _unfinished(text: str, folder: Path) -> None:
    (folder / "unfinished.json").write_text(text)
    Progress(folder, {"rate": 1}).resume()


def _grades(text: str, folder: Path) -> None:
    (folder / "grades.json").write_text(text)
    book = Gradebook("a", {"seed": 1})
    book.resume(folder / "grades.json", [("ada", "d1"), ("bob", "d2")])
    book.write(folder / "grades.json")


def _aggregate(text: str, folder: Path) -> None:
    (folder / "aggregate.json").write_text(text)
    read = publish.read(folder / "aggregate.json")
    list(summary(publish.merge([read, read])))


def _ceiling(text: str, folder: Path) -> None:
    (folder / "ceiling.json").write_text(text)
    cases.read(folder / "ceiling.json")
    page.write([folder / "ceiling.json"], folder / "report.html")


def _assignment(text: str, folder: Path) -> None:
    (folder / "assignment.toml").write_text(text, encoding="utf-8", errors="surrogatepass")
    load_assignment(folder / "assignment.toml")


def _submission(text: str, folder: Path) -> None:
    place = folder / "submissions"
    place.mkdir(exist_ok=True)
    (place / "ada.toml").write_text(text, encoding="utf-8", errors="surrogatepass")
    (read,) = read_submissions(place, [])
    if read.problem:  # it costs this student's marks, and stops nothing
        raise UsageError(read.problem, "hand it in again", "refused")


def _scenario(text: str, folder: Path) -> None:
    (folder / "mine.py").write_text(text, encoding="utf-8", errors="surrogatepass")
    find_scenario(str(folder / "mine.py")).as_dict()


def _topology(text: str, folder: Path) -> None:
    (folder / "net.py").write_text(text, encoding="utf-8", errors="surrogatepass")
    load_topology(str(folder / "net.py")).nodes()


def _topology_text(text: str, folder: Path) -> None:
    load_topology(text).nodes()


def _grid(text: str, folder: Path) -> None:
    cells(text.splitlines())


def _sets(text: str, folder: Path) -> None:
    Overrides.parse(text.splitlines(), [find_scenario("stale-data")])


def _demand(text: str, folder: Path) -> None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:  # no reader of twlab's takes a demand as JSON
        raise UsageError("no JSON", "none", "test") from error
    known = {spec.name: spec.type for spec in fields(Demand)}
    kinds = {"float": (int, float), "float | None": (int, float, type(None)), "int": (int,), "str": (str,)}
    given = values if isinstance(values, dict) else {}
    right = {key: value for key, value in given.items() if type(value) in kinds.get(str(known.get(key)), ())}
    made = make(Demand(**{"rate_per_s": 1, **right}))
    json.dumps(made.as_dict())


READERS = {
    "result": (of_json, [(RUN / "result.json").read_text()], _shown),
    "report": (of_json, [(RUN / "result.json").read_text()], _reported),
    "capture": (of_bytes, [(RUN / "treatment.pcapng").read_bytes()], _capture),
    "study": (of_json, [SWEEP, (FINDINGS / "alternatives.json").read_text()], _study),
    "sweep": (of_json, [SWEEP], _sweep),
    "unfinished": (of_json, [UNFINISHED], _unfinished),
    "assignment": (of_text, [path.read_text() for path in sorted(HANDOUTS.glob("*.toml"))], _assignment),
    "submission": (of_text, ['handout = "x"\nstudent = "ada"\n[answers]\na = 5\nb = "yes"\n'], _submission),
    "scenario": (of_text, [SCENARIO.read_text()], _scenario),
    "topology": (of_text, [(ROOT / "topologies" / "nat.py").read_text()], _topology),
    "topology options": (of_text, ["nat,clients=2", "pair,mtu=9000"], _topology_text),
    "grades": (of_json, [GRADES], _grades),
    "aggregate": (of_json, [AGGREGATE], _aggregate),
    "ceiling": (of_json, [CEILING], _ceiling),
    "grid": (of_text, ["time_wait_s=1,2\ndelay_s=3,4", "timestamps=0,1"], _grid),
    "sets": (of_text, ["time_wait_s=10\nserver:rfc1337=on\ntimestamps=0"], _sets),
    "demand": (of_json, [json.dumps({"rate_per_s": 500, "origins": 2, "reserved": "8080,9000-9100"})], _demand),
}


@pytest.mark.parametrize("name", READERS)
def test_a_reader_refuses_with_a_message_or_reads(name, tmp_path):
    """Anything but an error of twlab's is a traceback to the user."""
    mutate, corpus, read = READERS[name]
    shutil.copytree(RUN, tmp_path / "run")
    refused = 0
    for number in range(COUNT):
        dice = random.Random(f"{SEED} {name} {number}")
        made = mutate(dice.choice(corpus), dice)
        try:
            read(made, tmp_path)
        except LabError as error:
            refused += 1
            assert error.slug and error.remedy and len(str(error)) < 2000
        except Exception as error:
            raise AssertionError(f"variant {number} of {name} ended in {type(error).__name__}: {error}") from error
    assert refused  # otherwise the variants show nothing
