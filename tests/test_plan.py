"""The plan: the arithmetic of ports, the hazards that remain, and what it advises."""

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from twlab import UsageError
from twlab.planner.hazards import KINDS, Hazard
from twlab.planner.plan import POOL, Demand, make
from twlab.report.html import plan_page
from twlab.scenario import load_scenarios

DEMANDS = st.builds(
    Demand,
    rate_per_s=st.floats(0.1, 1e5),
    origins=st.integers(1, 1000),
    sources=st.integers(1, 256),
    port_low=st.integers(1024, 30_000),
    port_high=st.integers(30_001, 65_535),
    time_wait_s=st.floats(0.5, 240),
    life_s=st.floats(0, 1000),
    closes_first=st.sampled_from(["proxy", "origin"]),
    timestamps=st.booleans(),
    throughput=st.floats(0, 1e10),
    delay_s=st.floats(0.5, 240),
    window=st.integers(1, 2**30),
    late_share=st.floats(0, 1),
    loss_share=st.floats(0, 0.5),
)


def ways(demand):
    made = make(demand)
    return {way.name: way for way in (made.asked, *made.ways)}


def chance(way, name):
    return next((hazard.per_connection for hazard in way.hazards if hazard.name == name), 0.0)


def test_the_numbers_that_everybody_quotes():
    """28,232 ports and 60 s make 470.5 connections a second; 30, 15 and 10 s make 941.1, 1,882.1
    and 2,823.2.
    """
    found = ways(Demand(rate_per_s=500, life_s=0))
    exact = {"as-asked": 470.5, "time-wait-30": 941.1, "time-wait-15": 1882.1, "time-wait-10": 2823.2}
    assert {name: round(found[name].ceiling_per_s, 1) for name in exact} == exact
    assert round(found["wider-range"].ceiling_per_s, 1) == 1075.2
    assert round(found["more-sources"].ceiling_per_s, 1) == 1882.1


@given(DEMANDS)
def test_a_ceiling_is_four_tuples_over_the_time_that_each_is_held(demand):
    """For every way but the pool, which serves many requests on a connection, and the buckets,
    which hold only some.
    """
    for name, way in ways(demand).items():
        if name not in ("keep-alive", "tw-buckets"):
            assert way.ceiling_per_s == (pytest.approx(way.four_tuples / way.hold_s) if way.hold_s else math.inf)
    pool = ways(demand)["keep-alive"]
    assert pool.ceiling_per_s == pytest.approx(POOL * pool.four_tuples / pool.hold_s) if pool.hold_s else math.inf


@given(DEMANDS)
def test_needed_and_left_add_up(demand):
    """What is needed and what is left are the four-tuples; the ports suffice exactly where nothing
    is wanting, but for rounding.
    """
    made = make(demand)
    assert made.needed + made.left == demand.four_tuples
    assert made.left < 0 or made.asked.serves(demand.rate_per_s)
    assert made.left >= -1 or not made.asked.serves(demand.rate_per_s)


@given(DEMANDS, st.sampled_from(["origins", "sources", "time_wait_s", "life_s"]), st.floats(1, 3))
def test_more_four_tuples_sustain_more_and_longer_times_less(demand, name, factor):
    """The ceiling grows with origins and source addresses, and falls with TIME_WAIT and with the
    life of a connection.
    """
    value = getattr(demand, name)
    more = replace(demand, **{name: math.ceil(value * factor) if isinstance(value, int) else value * factor})
    before, after = make(demand).asked.ceiling_per_s, make(more).asked.ceiling_per_s
    assert after >= before if name in ("origins", "sources") else after <= before * (1 + 1e-12)


@given(
    DEMANDS,
    st.sampled_from(["late_share", "window", "throughput", "delay_s", "time_wait_s", "timestamps"]),
    st.floats(1, 3),
)
def test_the_danger_of_stale_data_grows_and_falls_as_it_should(demand, name, factor):
    """Up with late segments, with the window, and with the throughput; down with TIME_WAIT; none
    with timestamps; none older than the delay.
    """
    demand = replace(demand, closes_first="proxy")
    before = chance(make(demand).asked, "stale-data")
    assert before == 0 or (not demand.timestamps and demand.time_wait_s < demand.delay_s)
    if name == "timestamps":
        assert chance(make(replace(demand, timestamps=True)).asked, "stale-data") == 0
        return
    value = getattr(demand, name)
    more = value * factor if isinstance(value, float) else min(int(value * factor), 2**30)
    after = chance(
        make(replace(demand, **{name: min(more, 1.0) if name == "late_share" else more})).asked, "stale-data"
    )
    if name in ("late_share", "window", "throughput"):
        assert after >= before * (1 - 1e-9)
    elif name == "time_wait_s":
        # At the same number of connections: one that a longer TIME_WAIT keeps from coming about is
        # in no danger.
        assert after <= before * (1 + 1e-9)


@given(DEMANDS)
def test_every_hazard_is_a_probability_and_its_day_follows_from_it(demand):
    """Between 0 and 1 a connection, and a day is as many connections as come about, or for those
    refused as are wanted.
    """
    for way in ways(demand).values():
        for hazard in way.hazards:
            assert 0 < hazard.per_connection <= 1
            assert hazard.per_day <= hazard.per_connection * demand.rate_per_s * 86_400 * (1 + 1e-9)
            assert hazard.often()


@given(DEMANDS)
def test_only_what_overtakes_the_clock_of_initial_sequence_numbers_overlaps(demand):
    """A connection slower than 15.6 MB/s leaves no sequence number that a later one of its
    four-tuple could meet, short of the clock's turn.
    """
    slow = replace(
        demand,
        throughput=min(demand.throughput, 15e6),
        window=min(demand.window, 2**16),
        life_s=min(demand.life_s, 10.0),
        timestamps=False,
    )
    slow = replace(slow, delay_s=min(slow.delay_s, 200), closes_first="proxy")
    assert all(
        chance(way, "stale-data") == 0
        for name, way in ways(slow).items()
        if name not in ("linger-0", "tw-buckets", "keep-alive")
    )


@given(DEMANDS)
def test_every_plan_gives_advice_and_is_json(demand):
    """A situation and at least one more sentence; no value that JSON has no word for."""
    made = make(demand)
    assert len(made.advice) >= 2
    assert all(sentence.endswith(".") for sentence in made.advice)
    json.dumps(made.as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("per_day", "told"),
    [(1234.0, "1,234"), (0.5, "0.5"), (0.01, "1 in 100 days"), (1e-5, "1 in 274 y"), (5e-324, "never")],
)
def test_how_often_is_said_as_people_say_it(per_day, told):
    """So many a day; below one in ten days, how long one takes; less than once in a million years
    is never.
    """
    assert Hazard("stale-data", per_day / 1e6, per_day).often() == told


def test_advice_for_the_question_that_started_it():
    """500 a second over 28,232 ports: it does not suffice, more four-tuples come before
    tcp_tw_reuse, and shortening last.
    """
    advice = make(Demand(rate_per_s=500)).advice
    assert advice[0].startswith("It does not suffice")
    order = [
        next(number for number, text in enumerate(advice) if word in text)
        for word in ("requests on a connection", "4 times", "tcp_tw_reuse=1")
    ]
    assert order == sorted(order)
    assert "tw_recycle" in advice[-1]


def test_advice_where_nothing_need_change_and_where_nothing_suffices():
    """Ten a second need nothing; a million a second need several ways at once; a short TIME_WAIT
    without timestamps is warned of.
    """
    assert "Change nothing" in make(Demand(rate_per_s=10)).advice[1]
    assert "Combine them" in make(Demand(rate_per_s=1e6)).advice[1]
    assert " 6 source addresses in all" in make(Demand(rate_per_s=1000, life_s=60)).advice[1]
    assert "Switch timestamps on" in make(Demand(rate_per_s=10, time_wait_s=1, timestamps=False)).advice[1]
    assert any("No length of TIME_WAIT" in text for text in make(Demand(rate_per_s=1000, life_s=60)).advice)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate_per_s": 0},
        {"rate_per_s": math.nan},
        {"rate_per_s": -1},
        {"origins": 0},
        {"port_low": 50_000, "port_high": 40_000},
        {"port_high": 70_000},
        {"late_share": 1.5},
        {"closes_first": "nobody"},
        {"time_wait_s": math.inf},
        {"life_s": -0.1},
    ],
)
def test_what_cannot_be_is_refused_by_name(wrong):
    """UsageError, which names the value."""
    with pytest.raises(UsageError) as caught:
        Demand(**{"rate_per_s": 500, **wrong})
    assert caught.value.slug == "bad-plan"


def test_every_hazard_is_shown_by_a_scenario():
    """The scenario that a hazard names is in the catalogue."""
    assert {kind.scenario for kind in KINDS.values()} <= set(load_scenarios())


def test_the_page_is_whole_and_asks_nobody_anything(tmp_path):
    """Every way and every remaining hazard is on it, and no address of anything else."""
    made = make(Demand(rate_per_s=500, timestamps=False, time_wait_s=1, throughput=1e9, life_s=1))
    plan_page.write(made, tmp_path / "plan.html")
    text = (tmp_path / "plan.html").read_text()
    assert all(f">{way.name}<" in text for way in made.ways)
    assert all(f'id="{hazard.name}"' in text for way in made.ways for hazard in way.hazards)
    assert "http:" not in text
    assert "https:" not in text


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "twlab", "plan", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
        check=False,
    )


def test_the_command_prints_no_line_of_more_than_100_columns():
    """Readable in a narrow window."""
    done = run("--rate", "500")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_the_command_speaks_json_and_refuses_what_cannot_be(tmp_path):
    """--json is one object; a range that is none is told so, with exit status 2."""
    values = json.loads(run("--rate", "500", "--json", "--out", str(tmp_path / "page.html")).stdout)
    assert (values["four_tuples"], values["needed"], values["left"]) == (28232, 30050, -1818)
    assert (tmp_path / "page.html").exists()
    for wrong in (["--ports", "many"], ["--rate", "0"], ["--ports", "9-3"]):
        done = run(*wrong)
        assert done.returncode == 2
        assert "[bad-plan]" in done.stderr
