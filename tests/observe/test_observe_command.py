"""The command twlab observe: what it prints and writes, and with which exit status."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest
from conftest import ROOT
from planted import Plan, pcap

from twlab.observe.anonymize import Anonymizer
from twlab.observe.reading import observe

RUN = ROOT / "tests" / "data" / "runs" / "stale-data"


def twlab(*words: str | Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "twlab", *map(str, words)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("observe") / "capture.pcap"
    with path.open("wb") as file:
        pcap(Plan(tuples=60, windows=2, copies=0.02), file.write)
    return path


def test_json_csv_and_the_screen_agree(capture: Path, tmp_path: Path) -> None:
    """The same late packets in all three, each with file, frame and rule."""
    made = json.loads(twlab("observe", capture, "--json", "--csv", tmp_path / "x.csv").stdout)
    (one,) = made["observations"]
    rows = list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines()))
    assert [int(row["frame"]) for row in rows] == [late["frame"] for late in one["late"]]
    assert len(rows) > 10 and all(row["rule"] and row["file"] == str(capture) for row in rows)
    assert one["figures"]["late"]["copy"]["lateness_s"]["n"] == len(rows)
    screen = twlab("observe", capture, "--list", "1000").stdout
    assert all(f"#{row['frame']}  copy" in screen for row in rows)


def test_each_zero_says_what_it_was_watched_for(capture: Path) -> None:
    """The upper bound, the number of closes behind it, and what cannot be known."""
    screen = twlab("observe", capture).stdout
    assert "none of retransmission, delayed, answer, foreign, undecided: watched for after" in screen
    assert "(95 % sure)" in screen and "not to be known from one capture:" in screen


def test_lengths_of_time_wait_can_be_named(capture: Path) -> None:
    """The table has those that were asked for."""
    made = json.loads(twlab("observe", capture, "--json", "--time-wait", "5", "--time-wait", "0.5").stdout)
    assert [row["time_wait_s"] for row in made["rows"]] == [5, 0.5]


def test_a_runs_own_captures(tmp_path: Path) -> None:
    """A folder of a run, and a folder of runs: each arm by itself."""
    for folder in (RUN, RUN.parent):
        made = json.loads(twlab("observe", folder, "--json").stdout)
        assert [one["title"] for one in made["observations"]] == ["stale-data control", "stale-data treatment"]
    assert made["observations"][1]["late"][0]["harmed"] is True


def test_export_writes_the_flows_with_comments(tmp_path: Path) -> None:
    """A pcapng that twlab observe reads again with the same result, and whose comments name the
    frames.
    """
    twlab("observe", RUN, "--export", tmp_path)
    (path,) = tmp_path.glob("*.pcapng")
    assert path.name == "stale-data-treatment-copy.pcapng" and b"compared with #304: copy" in path.read_bytes()
    (late,) = observe([str(path)]).late
    assert late.kind == "copy" and late.harmed


def test_anonymized_results_have_no_address_and_no_payload(tmp_path: Path) -> None:
    """Neither the screen nor the JSON nor the exported capture has one; prefixes are kept; the
    finding is the same.
    """
    done = twlab("observe", RUN, "--anonymize", "--export", tmp_path, "--json")
    (path,) = tmp_path.glob("*.pcapng")
    for text in (done.stdout, done.stderr, path.read_bytes().decode("latin-1")):
        assert "10.0.1.1" not in text and "10.2.1.1" not in text
    data = path.read_bytes()
    assert ip_address("10.0.1.1").packed not in data and ip_address("10.2.1.1").packed not in data
    found = observe([str(path)])
    assert [(late.kind, late.harmed, late.contents) for late in found.late] == [("copy", True, "")]
    whole = (RUN / "treatment.pcapng").stat().st_size
    assert len(data) < whole / 2


def test_prefixes_are_kept() -> None:
    """Two addresses agree in as many bits after as before, IPv4 and IPv6; another key gives other
    addresses.
    """
    names = Anonymizer(b"k" * 32)

    def common(one: str, other: str) -> int:
        first, second = (ip_address(text).packed for text in (one, other))
        bits = len(first) * 8
        return bits - (int.from_bytes(first, "big") ^ int.from_bytes(second, "big")).bit_length()

    for one, other in (
        ("10.0.0.1", "10.0.0.2"),
        ("10.0.0.1", "10.0.128.1"),
        ("1.2.3.4", "200.1.1.1"),
        ("fd00::1", "fd00::2:1"),
    ):
        assert common(names.text(one), names.text(other)) == common(one, other)
    assert names.text("10.0.0.1") == Anonymizer(b"k" * 32).text("10.0.0.1") != Anonymizer(b"x" * 32).text("10.0.0.1")


def test_publish_and_merge(capture: Path, tmp_path: Path) -> None:
    """Aggregates add up on the command line; a broken one is named, and the rest is still added up."""
    twlab("observe", capture, "--publish", tmp_path / "a.json")
    twlab("observe", RUN, "--publish", tmp_path / "b.json")
    total = json.loads(twlab("observe", "--merge", tmp_path / "a.json", tmp_path / "b.json", "--json").stdout)
    assert total["captures"] == 3
    assert "3 captures" in twlab("observe", "--merge", tmp_path / "a.json", tmp_path / "b.json").stdout
    (tmp_path / "c.json").write_text("{}")
    assert (
        "[broken-aggregate]" in twlab("observe", "--merge", tmp_path / "a.json", tmp_path / "c.json", status=1).stderr
    )
    twlab("observe", "--merge", tmp_path / "c.json", status=2)


@pytest.mark.parametrize(
    ("words", "slug"),
    [
        (["nowhere.pcap"], "no-capture-file"),
        (["-", "-"], "bad-observation"),
        (["-", "--export", "x"], "bad-observation"),
        (["twlab"], "no-result"),
        (["pyproject.toml"], "not-a-capture"),
    ],
)
def test_wrong_usage(words: list[str], slug: str) -> None:
    """One message with its slug, exit status 2."""
    assert f"[{slug}]" in twlab("observe", *words, status=2).stderr


def test_the_findings_stand_in_a_report(capture: Path, tmp_path: Path) -> None:
    """--out writes what twlab report shows."""
    twlab("observe", RUN, "--out", tmp_path / "observe.json")
    twlab("report", tmp_path, "--out", tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "Late segments" in text and "exposed" in text
    assert "&lt;&lt; copy, 1.921169 s after the close" in text and "&lt;&lt; compared with #304" in text


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    """`twlab list` loads neither numpy nor a decompressor."""
    script = "import sys, twlab.cli; print([name for name in ('numpy', 'zstandard', 'lz4') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "words",
    [
        *(["--time-wait", value] for value in ("inf", "nan", "1e300", "1e6", "-1")),
        *(["--remember", value] for value in ("inf", "nan", "1e300", "1e9", "0")),
    ],
)
def test_a_time_that_is_none_is_refused(words: list[str], capture: Path) -> None:
    """Infinite, not a number, or longer than an aggregate may have."""
    done = twlab("observe", capture, *words, status=2)
    assert "[internal-error]" not in done.stderr and words[0] in done.stderr


def test_the_longest_times_are_taken(capture: Path, tmp_path: Path) -> None:
    """Up to the maximum that is named, and the aggregate can be read again."""
    twlab("observe", capture, "--time-wait", "999999", "--remember", "1e6", "--publish", tmp_path / "a.json")
    twlab("observe", "--merge", tmp_path / "a.json")


def test_two_observations_of_one_title_are_two_files(tmp_path: Path) -> None:
    """The copy of a run is exported beside the run."""
    for name in ("one", "two"):
        shutil.copytree(RUN, tmp_path / "runs" / name)
    done = twlab("observe", tmp_path / "runs", "--export", tmp_path / "flows")
    names = sorted(path.name for path in (tmp_path / "flows").iterdir())
    assert names == ["stale-data-treatment-2-copy.pcapng", "stale-data-treatment-copy.pcapng"]
    assert all(name in done.stderr for name in names)
    twlab("observe", tmp_path / "runs", "--export", tmp_path / "flows")
    assert len(list((tmp_path / "flows").iterdir())) == 2
