"""The pages on the ways out say what was measured, and every command in them can be run."""

import json
import re
import shlex

import pytest
from command_lines import parsed
from conftest import ROOT

from twlab.catalogue import load_scenarios
from twlab.planner.plan import TUPLE_BYTES
from twlab.ports import LINUX_SUSTAINS_PER_S
from twlab.studies.alternatives.page import page, scaled_text

DOCS = ROOT / "docs" / "findings"
TEXT = (DOCS / "answers.md").read_text()
MEASURED = json.loads((DOCS / "alternatives.json").read_text())
BALANCERS = (DOCS / "balancers.md").read_text()
COMMANDS = sorted(set(re.findall(r"`twlab ([^`]+)`", TEXT + BALANCERS)))


@pytest.mark.parametrize("text", COMMANDS)
def test_every_command_can_be_given(text):
    """It parses; the scenarios, arms and rows that it names exist."""
    words = shlex.split(text)
    context = parsed(words)
    names = context.params.get("names") or []
    if words[0] == "run":
        catalogue = load_scenarios()
        assert set(names) <= set(catalogue)
        assert all(arm in catalogue[name].arms for name in names for arm in context.params["arm"] or [])
    if words[0] == "alternatives":
        assert set(names) <= {row["name"] for row in MEASURED["rows"]}


def test_every_sentence_has_its_command():
    """Each point of the page names at least one, or a row of the table that a command of the same
    point measures.
    """
    points = re.split(r"^- ", TEXT.split("## 1.")[1], flags=re.MULTILINE)[1:]
    assert [point for point in points if "`twlab " not in point and not re.search(r"\(`[a-z0-9-]+`\)", point)] == []


def test_every_figure_is_the_one_that_was_measured():
    """Figures with a row in brackets are those of alternatives.json."""
    figures = re.findall(r"([\d,]+|no limit)(?: (?:requests )?a\s+second)?\s\(`([a-z0-9-]+)`\)", " ".join(TEXT.split()))
    rows = {row["name"]: row for row in MEASURED["rows"]}
    assert len(figures) >= 15
    assert [(figure, name) for figure, name in figures if scaled_text(rows[name]) != figure] == []
    assert len(figures) == len(re.findall(r"\(`[a-z0-9-]+`\)", TEXT)), "a row in brackets without a figure before it"


def test_a_stock_kernel_has_one_figure_and_one_memory_a_socket():
    """Linux's own 60 s: first in the answers and in the table of ceilings, the same in the README;
    and the bytes that were read off.
    """
    low, high = LINUX_SUSTAINS_PER_S
    first = next(line for line in (DOCS / "ceiling.md").read_text().splitlines() if line.startswith("| **60 s**"))
    assert f"| {low} | {high} |" in first
    assert f"sustains {low} new connections a second" in " ".join(TEXT.split("## 1.")[0].split())
    assert f"not {high}" in TEXT
    assert f"at {low:.0f} to {high:.0f}" in (ROOT / "README.md").read_text()
    assert 0.97 * low <= MEASURED["rows"][0]["of_28232_ports_per_s"] <= high
    for path in ("docs/findings/ceiling.md", "twlab/scenarios/overflow.py"):
        assert f"{TUPLE_BYTES} bytes" in (ROOT / path).read_text(), path
    assert {row["bytes_each"] for row in MEASURED["rows"] if row["kernel"] == MEASURED["kernel"]} == {TUPLE_BYTES}


def test_the_table_is_the_one_that_was_measured():
    """docs/findings/alternatives.md is what docs/findings/alternatives.json makes; all that could
    be measured was as planned.
    """
    assert (DOCS / "alternatives.md").read_text() == page(MEASURED)
    assert all(row["as_planned"] for row in MEASURED["rows"] if row["sustained_per_s"] is not None)
