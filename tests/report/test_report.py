"""The report: what it says of runs, what it makes of broken ones, and how large it grows."""

import gzip
import json
import random
import re
import shutil
from base64 import b64decode
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import example, given
from hypothesis import strategies as st

from twlab import UsageError
from twlab.report.html import line_chart, page, series, topology_svg, wording
from twlab.report.html.packing import Room
from twlab.report.html.series import Plot
from twlab.results.result import SCHEMA, ArmResult, Result

RECORDED = ROOT / "tests" / "data" / "runs" / "stale-data"


def make(**changes):
    told = Result(
        scenario="claim",
        hypothesis="A <b>claim</b> & more.",
        reads="RFC 9293",
        topology="pair",
        engine="host",
        seed=7,
        command="twlab run claim",
        kernel="6.12 #1",
        network={
            "nodes": {"client": "endpoint", "wire": "wire", "server": "endpoint"},
            "links": [["client", "wire"], ["server", "wire"]],
        },
        arms={
            "control": ArmResult("control", predicted={"x_ms": {"low": 1, "high": 2}}, observed={"x_ms": 1}, ok=True),
            "treatment": ArmResult(
                "treatment",
                predicted={"y": True},
                observed={"y": False},
                ok=False,
                mismatches=["y: predicted yes, observed no"],
            ),
        },
    )
    return replace(told, **changes)


def put(folder: Path, result: Result) -> Path:
    folder.mkdir(parents=True)
    result.write(folder)
    return folder


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_a_report_shows_what_was_predicted_and_what_was_observed(tmp_path):
    """Values carry their units, a fact that differs is marked, and nothing of a result becomes
    markup.
    """
    made = page.write([put(tmp_path / "run", make())], tmp_path / "report.html")
    text = text_of(made.path)
    assert (made.shown, made.unreadable) == (1, [])
    assert "1 to 2 ms" in text and "not as predicted" in text and "REFUTED" in text and "twlab run claim" in text
    assert "A &lt;b&gt;claim&lt;/b&gt; &amp; more." in text


def test_a_report_draws_the_network_that_an_arm_ran_on(tmp_path):
    """Where arms have networks of their own each is drawn, and says whose it is; where all have
    one, it stands there once.
    """
    wide = {"topology": "wide", "nodes": {"c1": "endpoint", "c2": "endpoint", "wire": "wire", "s1": "endpoint"},
            "links": [["c1", "wire"], ["c2", "wire"], ["s1", "wire"]]}  # fmt: skip
    result = make()
    result.arms["treatment"].network = wide
    text = text_of(page.write([put(tmp_path / "run", result)], tmp_path / "report.html").path)
    assert [re.sub(r"\s+", " ", found) for found in re.findall(r"The network: ([^<]*)</figcaption>", text)] == [
        "pair (arm control)", "wide (arm treatment)",
    ]  # fmt: skip
    assert "c1 to wire; c2 to wire; s1 to wire" in text
    text = text_of(page.write([put(tmp_path / "same", make())], tmp_path / "same.html").path)
    assert re.findall(r"The network: ([^<]*)</figcaption>", text) == ["pair"]


def test_a_report_asks_nothing_of_any_network(tmp_path):
    """No address of anything but itself and the captures beside it, and a policy that forbids the
    rest.
    """
    shutil.copytree(RECORDED, tmp_path / "run")
    text = text_of(page.write([tmp_path / "run"], tmp_path / "report.html").path)
    assert "default-src 'none'" in text
    assert not [
        url
        for url in re.findall(r'(?:src|href)="([^"]*)"', text)
        if not re.match(r"#|data:,|run/[a-z%0-9-]+\.pcapng$", url)
    ]
    assert 'class="ladder' in text


def test_broken_runs_are_named_and_the_rest_is_shown(tmp_path):
    """Missing, truncated, foreign, newer and odd results are told apart; the report is made all the
    same.
    """
    good = put(tmp_path / "good", make())
    odd = put(tmp_path / "odd", make())
    values = json.loads((odd / "result.json").read_text())
    values["arms"]["control"]["transcript"] = [{"what": 1}]
    (odd / "result.json").write_text(json.dumps(values))
    for name, content in {
        "cut": '{"schema": 1',
        "foreign": "[]",
        "newer": json.dumps({"schema": SCHEMA + 1, "scenario": "x"}),
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(content)
    made = page.write(
        [tmp_path / "none", tmp_path / "cut", good, tmp_path / "foreign", tmp_path / "newer", odd],
        tmp_path / "report.html",
    )
    assert made.shown == 1
    assert [error.slug for error in made.unreadable] == [
        "no-result",
        "broken-result",
        "foreign-result",
        "newer-result",
        "broken-result",
    ]
    assert all(name in text_of(made.path) for name in ("/none", "/cut", "/foreign", "/newer", "/odd"))


def test_without_one_readable_run_there_is_no_report(tmp_path):
    """The error of the first is the error of the whole."""
    with pytest.raises(UsageError) as caught:
        page.write([tmp_path / "none"], tmp_path / "report.html")
    assert caught.value.slug == "no-result" and not (tmp_path / "report.html").exists()


def test_a_cut_capture_costs_its_ladder_and_nothing_else(tmp_path):
    """The page says which capture is broken."""
    shutil.copytree(RECORDED, tmp_path / "run")
    capture = tmp_path / "run" / "treatment.pcapng"
    capture.write_bytes(capture.read_bytes()[:-7])
    made = page.write([tmp_path / "run"], tmp_path / "report.html")
    assert made.unreadable == [] and "broken-capture" in text_of(made.path)


def test_a_thousand_runs_are_one_small_page(tmp_path):
    """All are in the overview; in full only so many, and those that went wrong before the others."""
    good = {"control": ArmResult("control", ok=True), "treatment": ArmResult("treatment", ok=True)}
    for number in range(1000):
        put(
            tmp_path / "runs" / f"{number:04}",
            make(scenario=f"claim-{number}", **({"arms": good} if number != 999 else {})),
        )
    made = page.write([tmp_path / "runs"], tmp_path / "report.html")
    text = text_of(made.path)
    assert made.shown == 1000 and text.count('<section class="run"') == page.FULL
    assert "claim-998" in text and 'id="run-1-title">claim-999' in text
    assert len(text) < 5_000_000


def test_a_fact_that_is_a_table_is_shown_as_one(tmp_path):
    """Rows with the same columns, each value with its unit."""
    rows = [{"clients": 2, "median_ms": None}, {"clients": 5, "median_ms": 3}]
    arms = {"control": ArmResult("control", observed={"table": rows}, ok=True)}
    text = text_of(page.write([put(tmp_path / "run", make(arms=arms))], tmp_path / "report.html").path)
    assert '<th scope="col">median</th>' in text and "<td>3 ms</td>" in text and "clients&#39;" not in text


@pytest.mark.parametrize(
    ("oks", "said"),
    [
        ((True, True), "The claim held"),
        ((True, False), "“treatment” did not show"),
        ((False, True), "control itself did not behave"),
        ((True, None), "“treatment” could not be carried out"),
        ((None, True), "“control” could not be carried out"),
    ],
)
def test_a_verdict_is_told_in_words(oks, said):
    """Each way a run can end has its own sentence."""
    assert said in wording.verdict(
        make(arms={name: ArmResult(name, ok=ok) for name, ok in zip(("control", "treatment"), oks, strict=True)})
    )


def test_arms_are_told_in_a_few_words():
    """How many went as predicted, and the others by name."""
    arms = {
        "control": ArmResult("control", ok=True),
        "a": ArmResult("treatment", ok=False),
        "b": ArmResult("remedy", ok=None),
    }
    assert wording.arms(make(arms=arms)) == "1 of 3 as predicted; a not as predicted; b could not be carried out"


def test_a_run_without_its_control_says_so():
    """A treatment alone has nothing to be compared with, at any verdict."""
    assert "the control was not part of this run" in wording.verdict(
        make(arms={"treatment": ArmResult("treatment", ok=True)})
    )


def test_the_wire_stands_between_clients_and_servers():
    """Clients left, servers right, in any order of the links."""
    nodes = {"server": "endpoint", "nat": "gateway", "wire": "wire", "client": "endpoint", "c2": "endpoint"}
    drawn = str(topology_svg.topology(nodes, [["server", "wire"], ["nat", "wire"], ["client", "nat"], ["c2", "nat"]]))
    at = {name: float(x) for x, name in re.findall(r'<rect x="([\d.]+)".*?<text[^>]*>(\w+)</text>', drawn)}
    assert at["client"] == at["c2"] < at["nat"] < at["wire"] < at["server"]


@given(st.lists(st.tuples(st.floats(0, 1e5), st.integers(0, 10**6)), min_size=1, max_size=500), st.floats(0, 1e5))
@example([(5e-324, 1)], 0.0)
@example([(0.0, 1)], 5e-324)
@example([(0.0, 0), (1e-9, 3)], 1e-9)
def test_no_value_falls_outside_the_plot(points, last_s):
    """Every part of the curve lies on the paper, for any counts at any times."""
    drawn = str(line_chart.draw(Plot("counts", {"n": sorted(points), "m": [(0.0, 1)]}), last_s))
    for path in re.findall(r'class="series s\d" d="([^"]*)"', drawn):
        across = [float(x) for x in re.findall(r"[MH]([\d.]+)", path)]
        down = [float(y) for y in re.findall(r"V([\d.]+)", path)]
        assert all(0 <= x <= 520 for x in across) and all(0 <= y <= 180 for y in down)


def arm_of(**changes):
    told = [
        {"at_s": 0.0, "kind": "step", "text": "A step."},
        {"at_s": 1.0, "kind": "verb", "node": "c1", "text": "connects to server port 80 from port 1024"},
        {"at_s": 2.0, "kind": "verb", "node": "c1", "text": "connect to server port 80 fails: EADDRNOTAVAIL"},
        {"at_s": 3.0, "kind": "verb", "node": "c1", "text": "bind to server port 80 fails: EADDRINUSE"},
    ]
    return replace(ArmResult("control", transcript=told, virtual_s=4.0), **changes)


def test_what_failed_is_counted_up_over_time():
    """Connects that failed beside those that came about; where none failed there is nothing to
    plot.
    """
    (plot,) = series.of(arm_of())
    assert plot.curves == {
        "failed": [(0.0, 0), (2.0, 1), (3.0, 2), (4.0, 2)],
        "came about": [(0.0, 0), (1.0, 1), (4.0, 1)],
    }
    assert series.of(arm_of(transcript=arm_of().transcript[:2])) == []


def test_a_load_counted_by_the_second_is_plotted_too():
    """From when its step began; failures by error are added up; the node whose sockets wait is the
    one that connects.
    """
    load = {
        "attempted": [9, 9],
        "connected": [9, 4],
        "failed": [{}, {"connect EADDRNOTAVAIL": 4, "bind EADDRINUSE": 1}],
    }
    told = [
        {"at_s": 1.0, "kind": "step", "text": "A load."},
        {"at_s": 3.0, "kind": "note", "text": "second by second", "details": load},
    ]
    counted = {"proxy": [[0.0, 0, 0], [3.0, 0, 13]], "server": [[0.0, 1, 0]]}
    waiting, ports, connects = series.of(arm_of(transcript=told, sockets=counted))
    assert connects.curves == {
        "failed": [(0.0, 0), (3.0, 5), (4.0, 5)],
        "came about": [(0.0, 0), (2.0, 9), (3.0, 13), (4.0, 13)],
    }
    assert list(waiting.curves) == list(ports.curves) == ["proxy"]


def test_ports_are_those_of_who_connects():
    """A server's sockets share one port. TIME_WAIT is shown where there is some, ports where there
    are more than a handful.
    """
    counted = {"c1": [[0.0, 0, 0], [1.0, 3, 4], [2.0, 4, 3]], "server": [[0.0, 1, 0], [1.0, 8, 0]]}
    waiting, ports = series.of(arm_of(sockets=counted, transcript=arm_of().transcript[:2]))
    assert waiting.curves == {"c1": [(0.0, 0), (1.0, 4), (2.0, 3)]}
    assert ports.curves == {"c1": [(0.0, 0), (1.0, 7)]}


def test_older_results_have_their_time_wait_from_the_listed_tables():
    """A table that was not there at a step was empty."""
    samples = [{"at_s": 0.0, "node": "c1", "count": 3, "sockets": []}]
    (plot,) = series.of(arm_of(time_wait=samples, transcript=arm_of().transcript[:1]))
    assert plot.curves == {"c1": [(0.0, 3), (4.0, 0)]}


def test_a_page_has_room_for_so_much():
    """First ladders stand in it as they are, then packed, and then it says so."""
    room = Room(plain=3000, packed=3000)
    texts = [
        " ".join(str(random.Random(number).random()) for number in range(at * 100, at * 100 + 60)) for at in range(20)
    ]
    kept = [room.place(text) for text in texts]
    assert kept[0] == (texts[0], "") and kept[-1] is None
    assert sum(len(one[0]) for one in kept if one) <= 3000 and 0 < sum(len(one[1]) for one in kept if one) <= 3000
    room = Room(plain=100, packed=100)
    assert (room.fold("x" * 90), room.fold("x" * 20), room.place("y" * 190, 90)) == (True, False, ("y" * 190, ""))


def test_no_ladder_has_a_style_in_its_markup(tmp_path):
    """Neither as it stands, nor packed, nor once more for a narrow screen: the pages of `twlab serve`
    refuse it.
    """
    shutil.copytree(RECORDED, tmp_path / "run")
    text = text_of(page.write([tmp_path / "run"], tmp_path / "report.html").path)
    packed = re.findall(r'data-(?:packed|narrow)="([^"]+)"', text)
    ladders = [text, *(gzip.decompress(b64decode(one)).decode() for one in packed)]
    folds = [
        tag for one in ladders for tag in re.findall(r'<details class="fold"[^>]*>|<svg [^>]*class="ladder"[^>]*>', one)
    ]
    assert len(folds) > 10
    assert [tag for tag in folds if " style=" in tag] == []


def test_forty_scenarios_of_six_arms_fit(tmp_path):
    """As many and as busy as the catalogue will be: below 5 MB, with every ladder there, and every
    fold to be opened.
    """
    for number in range(40):
        run = tmp_path / "runs" / f"{number:02}"
        shutil.copytree(RECORDED, run)
        values = json.loads((run / "result.json").read_text())
        values["arms"] |= {f"remedy-{at}": {**values["arms"]["treatment"], "role": "remedy"} for at in range(4)}
        (run / "result.json").write_text(json.dumps(values))
    text = text_of(page.write([tmp_path / "runs"], tmp_path / "report.html").path)
    assert len(text) < 5_000_000
    assert (
        text.count('<details class="ladder" open>') == 240
        and "No ladder" not in text
        and "More than this page" not in text
    )


@pytest.mark.parametrize("at", [0, 1, 2, 500, 501, 502, 503, 997, 998, 999])
def test_the_peaks_and_valleys_of_a_long_curve_are_drawn(at):
    """Wherever they are, with a fifth of the points."""
    flat = [(number / 100, 50 + number % 2) for number in range(1000)]
    heights = []
    for extreme in (1000, 0):
        points = [*flat[:at], (flat[at][0], extreme), *flat[at + 1 :]]
        drawn = str(line_chart.draw(Plot("ports", {"n": points, "m": [(0.0, 1000)]}), 10.0))
        path = re.search(r'class="series s0" d="M[0-9.]+ ([^"]+)"', drawn)[1]
        heights.append([float(y) for y in re.findall(r"^[0-9.]+|(?<=V)[0-9.]+", path)])
    top, bottom = min(heights[0]), max(heights[1])
    assert (top, bottom) == (26.0, 150.0) and all(len(each) <= 210 for each in heights)


def test_a_run_that_is_named_twice_counts_once(tmp_path):
    """By its folder, by its file, by the folder that holds it, by another way to it."""
    run = put(tmp_path / "runs" / "run", make())
    again = tmp_path / "runs" / ".." / "runs" / "run"
    made = page.write([run, run / "result.json", tmp_path / "runs", again], tmp_path / "report.html")
    assert made.shown == 1
