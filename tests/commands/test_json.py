"""What `--json` prints is what docs/reference/json.md says: no key is missing there, and none is
made up.
"""

import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT

PAGE = (ROOT / "docs" / "reference" / "json.md").read_text()
RUN = ROOT / "tests" / "data" / "runs" / "stale-data"
ARM_OF_RUN = {"predicted", "observed", "ok"}


def section(command):
    return re.search(rf"^## {re.escape(command)}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)[1]


def keys_in(text, heading):
    """The keys in the table whose first column is called `heading`."""
    table = re.search(rf"^\| {re.escape(heading)} \| holds \|\n\| --- \| --- \|\n((?:\|.*\n)+)", text, re.MULTILINE)[1]
    return {key for row in table.splitlines() for key in re.findall(r"`(\w+)`", row.split("|")[1])}


def said(*words):
    done = subprocess.run(
        [sys.executable, "-m", "twlab", *map(str, words), "--json"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    return json.loads(done.stdout)


def test_list():
    """Each scenario with the same keys."""
    assert {frozenset(each) for each in said("list")} == {frozenset(keys_in(section("twlab list"), "key"))}


def test_explain():
    """The scenario, and each of its arms."""
    explained, text = said("explain", "stale-data"), section("twlab explain")
    assert explained.keys() == keys_in(text, "key")
    assert {frozenset(arm) for arm in explained["arms"].values()} == {frozenset(keys_in(text, "key in `arms`"))}
    assert explained["arms"]["treatment"]["settings"]["time_wait_s"] == 1


def test_show():
    """What `run` prints, and more; --arm chooses."""
    shown = said("show", RUN)
    assert shown.keys() == keys_in(section("twlab run"), "key") | keys_in(section("twlab show"), "key")
    assert {frozenset(arm) for arm in shown["arms"].values()} == {
        frozenset(ARM_OF_RUN | keys_in(section("twlab show"), "key in `arms`"))
    }
    assert list(said("show", RUN, "--arm", "treatment")["arms"]) == ["treatment"]


@pytest.mark.host
def test_run(tmp_path):
    """On either engine."""
    (element,) = said("run", "ack-for-unsent", "--arm", "control", "--engine", "host", "--out", tmp_path)
    assert element.keys() == keys_in(section("twlab run"), "key")
    assert ARM_OF_RUN <= element["arms"]["control"].keys() <= ARM_OF_RUN | {"error"}


def test_doctor_and_plan():
    """The findings; the plan, and each of its ways."""
    assert {frozenset(each) for each in said("doctor")} == {frozenset(keys_in(section("twlab doctor"), "key"))}
    planned, text = said("plan"), section("twlab plan")
    assert planned.keys() == keys_in(text, "key")
    assert {frozenset(way) for way in planned["ways"]} == {frozenset(keys_in(text, "key in `ways`"))}


def test_every_command_with_json_has_a_section():
    """A new --json does not stay unexplained."""
    from twlab.cli import COMMANDS, load

    with_json = {name for name in COMMANDS if {"as_json", "as_json_"} & set(load(name).__annotations__)}
    assert with_json <= set(re.findall(r"^## twlab (\w+)", PAGE, re.MULTILINE))
    assert {"list", "explain", "show", "run", "doctor"} <= with_json
