"""Ceilings: the rate at which no connect fails is found from what is seen, is where theory puts it,
and is told as a table.
"""

import csv
import io
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import ROOT

from twlab.commands.ceiling import _cases as asked
from twlab.commands.ceiling import ceiling
from twlab.errors import UsageError
from twlab.ports import PortChoice
from twlab.studies.ceiling import fill
from twlab.studies.ceiling.cases import Case, as_csv, cases, read, write

SMALL = {
    "range": Case(group="ports", time_wait_s=5, port_low=40_000, port_high=40_999),
    "connect": Case(group="choice", time_wait_s=5, port_low=40_000, port_high=40_999, choice=PortChoice.CONNECT),
    "bind": Case(group="choice", time_wait_s=5, port_low=40_000, port_high=40_999, choice=PortChoice.BIND),
    "claimed": Case(group="ports", time_wait_s=10, port_low=40_000, port_high=40_999, first_per_s=120.0),
    "three origins": Case(group="origins", time_wait_s=10, port_low=40_000, port_high=40_399, origins=3),
    "constant": Case(group="constant", time_wait_s=60, port_low=40_000, port_high=40_399, to_the_tick=False),
    "server closes": Case(group="closer", time_wait_s=10, port_low=40_000, port_high=40_199, opener_closes=False),
}


def measured(case: Case, folder: Path) -> dict[str, Any]:
    """A row, from a boot of its own."""
    from twlab.engines.guest.engine import Guest

    answers: list[dict[str, Any]] = []
    Guest(agent="twlab.studies.ceiling.agent").run({"case": asdict(case)}, folder, answers.append, real_limit_s=120)
    return next(answer["row"] for answer in answers if "row" in answer)  # on a busy machine: quiet, too


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return {name: measured(case, tmp_path_factory.mktemp("guest")) for name, case in SMALL.items()}


@pytest.mark.guest
@pytest.mark.parametrize("name", ["range", "connect", "bind", "claimed", "three origins"])
def test_the_ceiling_is_ports_by_time_wait(rows, name):
    """Within 1 % on either side: below it no connect fails, above it one does; however the port is
    chosen, and towards each origin.
    """
    row = rows[name]
    assert row["sustained_per_s"] == pytest.approx(row["exact_per_s"], rel=0.01)
    assert row["failing_per_s"] == pytest.approx(row["exact_per_s"], rel=0.01)
    assert row["sustained_per_s"] < row["failing_per_s"]


@pytest.mark.guest
def test_a_rate_was_really_sustained(rows):
    """The trial without a failure lasted longer than a port is held, with as many connections as
    its rate says.
    """
    row = rows["range"]
    trial = next(trial for trial in row["trials"] if trial["first_failure_s"] is None)
    assert trial["duration_s"] > 1.2 * row["time_wait_s"]
    assert trial["connected"] == trial["attempted"] == pytest.approx(trial["rate_per_s"] * trial["duration_s"], abs=1)
    assert trial["most_in_time_wait"] <= row["ports"]


@pytest.mark.guest
def test_what_the_application_sees_past_it(rows):
    """EADDRNOTAVAIL from connect; EADDRINUSE from bind, where bind comes first. At a claimed rate,
    once all ports have been used.
    """
    assert {name: rows[name]["error"] for name in ("range", "connect", "bind")} == {
        "range": "connect EADDRNOTAVAIL",
        "connect": "connect EADDRNOTAVAIL",
        "bind": "bind EADDRINUSE",
    }
    assert rows["claimed"]["trials"][0]["first_failure_s"] == pytest.approx(1000 / 120, abs=0.1)


@pytest.mark.guest
def test_linux_s_own_60_s_are_longer(rows):
    """A timer of 15,000 ticks is rounded up to 512: what TIME_WAIT takes from the ceiling is up to
    62.05 s.
    """
    row = rows["constant"]
    assert row["sustained_per_s"] <= 400 / 62.05 * 1.01
    assert row["failing_per_s"] == pytest.approx(400 / 62.05, rel=0.02)


@pytest.mark.guest
def test_the_end_that_closes_first_has_the_time_wait(rows):
    """Let the server close, and the opener has no ceiling."""
    row = rows["server closes"]
    assert (row["error"], row["failing_per_s"], row["trials"][0]["most_in_time_wait"]) == ("", None, 0)
    assert row["sustained_per_s"] > 100 * row["exact_per_s"]
    assert row["server_in_time_wait"] > 0


def test_the_whole_table_has_what_the_question_asks():
    """Four lengths by three ranges, with the mail's figures beside Linux's default; each row has a
    name of its own.
    """
    table = cases()
    assert len({case.name for case in table}) == len(table)
    full = [case for case in table if case.group == "ports"]
    assert {(case.time_wait_s, case.ports) for case in full} == {
        (t, n) for t in (60, 30, 15, 10) for n in (28_232, 32_768, 64_512)
    }
    assert [case.as_dict()["mail_per_s"] for case in full if case.ports == 28_232] == [500, 1000, 2000, 3000]
    assert [case.as_dict()["exact_per_s"] for case in full if case.ports == 28_232] == [470.5, 941.1, 1882.1, 2823.2]


def test_theory_counts_what_is_shared():
    """Origins multiply what connect() chooses, and nothing after bind(); an odd range counts one
    less; 60 s are measured twice.
    """

    def exact(choice, origins=10, ports=2000):
        return Case(
            group="origins",
            time_wait_s=10,
            port_low=40_000,
            port_high=40_000 + ports - 1,
            origins=origins,
            choice=choice,
        ).exact_per_s

    assert [exact(choice) for choice in (PortChoice.RANGE, PortChoice.CONNECT, PortChoice.NO_PORT)] == [
        2000,
        2000,
        2000,
    ]
    assert [exact(choice) for choice in (PortChoice.BIND, PortChoice.EXPLICIT)] == [200, 200]
    assert (exact(PortChoice.CONNECT, 1, 101), exact(PortChoice.RANGE, 1, 101)) == (10, 10.1)
    assert cases()[0].name == "60 s, 28,232 ports, Linux's own constant"
    assert [case.to_the_tick for case in asked(60.0, 40_000, 40_999, 1, PortChoice.RANGE)] == [False, True]
    assert [case.to_the_tick for case in asked(10.0, 40_000, 40_999, 1, PortChoice.RANGE)] == [True]


def test_a_table_is_written_and_read(tmp_path):
    """As JSON and as CSV; and what is no such table is told so."""
    row = {**SMALL["range"].as_dict(), "sustained_per_s": 199.0, "trials": [{"rate_per_s": 199.0}]}
    files = write(tmp_path / "new", [row], kernel="6.12", engine="guest", command="twlab ceiling", seed=1)
    assert read(files[0])["rows"] == [row]
    (line,) = csv.DictReader(io.StringIO(files[1].read_text()))
    assert (line["name"], line["sustained_per_s"], "trials" in line) == ("5 s, 1,000 ports", "199.0", False)
    assert as_csv([]) == "\n"
    for text in ("", "[]", "{}", '{"kind": "ceiling", "schema": 99, "rows": []}'):
        (tmp_path / "other.json").write_text(text)
        with pytest.raises(UsageError) as caught:
            read(tmp_path / "other.json")
        assert caught.value.slug == "no-ceiling"


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "twlab", "ceiling", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": "/root"},
    )


@pytest.mark.guest
def test_the_command_leaves_a_table_and_a_plot(tmp_path):
    """Two cases of one's own, side by side: the files are there, and what is printed is what they
    hold.
    """
    done = command("--time-wait", "2", "--time-wait", "4", "--ports", "40000-40399", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == json.loads((tmp_path / "ceiling" / "ceiling.json").read_text())
    assert [row["name"] for row in told["rows"]] == ["2 s, 400 ports", "4 s, 400 ports"]
    assert all(row["sustained_per_s"] == pytest.approx(row["exact_per_s"], rel=0.02) for row in told["rows"])
    assert {file.suffix for file in (tmp_path / "ceiling").iterdir()} == {".json", ".csv", ".png", ".svg"}


@pytest.mark.guest
def test_a_table_of_which_no_case_could_be_measured_is_told(tmp_path, monkeypatch, capsys):
    """Each with its reason; exit status 1, and the files are there, without a plot."""
    monkeypatch.setattr(fill, "measure_all", lambda wanted, **_: [(0, {"error": "no room"})])
    with pytest.raises(typer.Exit) as ended:
        ceiling(time_wait=[10.0], ports=["40000-40099"], folder=tmp_path)
    assert ended.value.exit_code == 1
    assert "no room" in capsys.readouterr().err
    assert read(tmp_path / "ceiling.json")["rows"] == []
    assert not (tmp_path / "ceiling.png").exists()


@pytest.mark.guest
@pytest.mark.parametrize(
    "words", [["--ports", "9"], ["--ports", "20-10"], ["--time-wait", "0"], ["--choice", "best"], ["--origins", "0"]]
)
def test_what_cannot_be_asked_is_told(tmp_path, words):
    """Wrong usage, before anything is booted."""
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert not (tmp_path / "ceiling").exists()
