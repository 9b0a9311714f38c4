"""A plan names the causes of a symptom, and says which of them its figures leave."""

import json
import math
import subprocess
import sys

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from twlab import UsageError
from twlab.diagnose.explained import explain
from twlab.diagnose.symptom_table import SYMPTOMS
from twlab.planner.plan import Demand, make
from twlab.report.html import plan_page


def explained(symptom, **demand):
    return explain(make(Demand(**{"rate_per_s": 400, **demand})), [symptom])


@pytest.mark.parametrize(
    ("symptom", "demand", "first", "note"),
    [
        ("1 s", {}, "ipvs-half-dead", ""),
        ("10 ms", {}, "half-open-rest", ""),
        ("67 s", {"closes_first": "origin"}, "lost-reset-no-timestamps", "only where an end has no timestamps"),
        ("67 s", {"closes_first": "origin", "timestamps": False}, "lost-reset-no-timestamps", ""),
        ("134 s", {}, "lost-reset", "only where the origin closed first"),
        ("EADDRNOTAVAIL", {"rate_per_s": 900}, "own-ports", ""),
        ("EADDRINUSE", {"rate_per_s": 900, "choice": "bind"}, "bind-first", ""),
        ("502", {"rate_per_s": 900}, "own-ports", ""),
    ],
)
def test_the_likeliest_cause_comes_first(symptom, demand, first, note):
    """It fits the figures; what else it takes is said."""
    cause = explained(symptom, **demand)[0]
    assert (cause.row.name, cause.fits) == (first, True)
    assert cause.note.startswith(note) and bool(cause.note) is bool(note)


@pytest.mark.parametrize(
    ("symptom", "demand", "last", "note"),
    [
        ("EADDRNOTAVAIL", {}, "own-ports", "the proxy's ports suffice"),
        ("EADDRNOTAVAIL", {"rate_per_s": 900, "choice": "bind"}, "own-ports", "the error is bind EADDRINUSE"),
        ("EADDRINUSE", {"rate_per_s": 900}, "bind-first", "the error is connect EADDRNOTAVAIL"),
        ("EADDRNOTAVAIL", {"rate_per_s": 900, "closes_first": "origin"}, "own-ports", "suffice"),
        ("134 s", {"timestamps": False}, "lost-reset", "67 s"),
    ],
)
def test_what_the_figures_speak_against_comes_last(symptom, demand, last, note):
    """With the figure that does."""
    cause = explained(symptom, **demand)[-1]
    assert (cause.row.name, cause.fits) == (last, False) and note in cause.note


def test_a_gateways_ports_and_table_are_counted():
    """400 connections a second, half of them to the busiest of four origins, held for 120.1 s."""
    notes = {cause.row.name: cause.note for cause in explained("ETIMEDOUT", origins=4, busiest=0.5)}
    assert f"{math.ceil(400 * 0.5 * 120.1):,} ports" in notes["ports-at-rest"]
    assert f"{math.ceil(400 * 120.1):,} entries" in notes["conntrack-full"]


@given(st.text(max_size=40), st.booleans(), st.sampled_from(["proxy", "origin"]))
def test_any_text_is_explained_or_refused(text, timestamps, closer):
    """Causes that the figures speak against say why, and stand behind all others."""
    try:
        causes = explained(text, timestamps=timestamps, closes_first=closer)
    except UsageError as error:
        assert error.slug == "no-such-symptom"
        return
    assert {cause.row for cause in causes} <= set(SYMPTOMS)
    assert [cause.fits for cause in causes] == sorted((cause.fits for cause in causes), reverse=True)
    assert all(cause.note for cause in causes if not cause.fits)


def test_the_page_has_them(tmp_path):
    """What was seen is text, never markup."""
    made, seen = make(Demand(rate_per_s=400)), "134 s <script>"
    plan_page.write(made, tmp_path / "plan.html", seen, [cause.as_dict() for cause in explain(made, [seen])])
    page = (tmp_path / "plan.html").read_text()
    assert "134 s &lt;script&gt;" in page and "<script" not in page
    assert "twlab run lost-reset --arm reset-lost" in page


def run(*arguments):
    command = [sys.executable, "-m", "twlab", "plan", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_command():
    """Text of at most 100 columns, JSON, and one message where no cause is known."""
    done = run("--rate", "400", "--symptom", "EADDRNOTAVAIL")
    assert "speak against" in done.stdout and "sidecar-redirect" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    symptom = json.loads(run("--symptom", "1s", "--json").stdout)["symptom"]
    assert symptom["seen"] == "1s" and symptom["causes"][0]["name"] == "ipvs-half-dead"
    done = run("--symptom", "frobnicate")
    assert done.returncode == 2 and "[no-such-symptom]" in done.stderr and "Traceback" not in done.stderr
