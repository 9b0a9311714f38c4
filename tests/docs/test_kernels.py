"""The page on what changed between kernels: every row has a command that can be given."""

import re
import shlex

import pytest
from command_lines import parsed
from conftest import ROOT

from twlab.catalogue import load_scenarios, parse_overrides

TEXT = (ROOT / "docs" / "findings" / "kernels.md").read_text()
CATALOGUE = load_scenarios()
TABLES = TEXT.partition("## What the comparison found")[0]
ROWS = [line for line in TABLES.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| since |"))]
COMMANDS = sorted({*re.findall(r"`twlab ([^`]+)`", TEXT), *re.findall(r"^    twlab (.+)$", TEXT, re.MULTILINE)})


@pytest.mark.parametrize("text", COMMANDS)
def test_every_command_can_be_given(text: str) -> None:
    """It parses; the scenarios, arms and settings that it names exist."""
    params = parsed(shlex.split(text)).params
    names = params.get("names") or []
    assert names or params.get("all_")
    for name in names:
        assert {*(params.get("arm") or [])} <= {*CATALOGUE[name].arms, *CATALOGUE[name].roles.values()}
        parse_overrides(name, params.get("set_") or [])


@pytest.mark.parametrize("row", ROWS)
def test_every_row_is_whole(row: str) -> None:
    """Since when, what, a command, a function of the source, and what it means."""
    since, what, command, source, meaning = [cell.strip() for cell in row.strip("|").split("|")]
    assert since
    assert what
    assert meaning
    assert re.fullmatch(r"`twlab [^`]+`", command)
    assert re.search(r"`\w+`", source)


def test_the_page_has_rows_for_each_subject() -> None:
    """TIME_WAIT, segments, ports, clocks, gateways."""
    parts = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
    tables = {part.splitlines()[0]: sum(line.startswith("| ") for line in part.splitlines()) for part in parts}
    for title in ("TIME_WAIT and its reuse", "Segments that do not fit", "Ports", "Clocks", "Gateways"):
        assert tables[title] >= 2 + 2, title
