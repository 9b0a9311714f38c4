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
from in_guest import run_in_guest
from odd_ports import found

from twlab import UsageError
from twlab.catalogue import load_scenarios
from twlab.planner.demand import late_s
from twlab.planner.hazards import KINDS, Hazard
from twlab.planner.plan import POOL, Answer, Demand, make
from twlab.ports import PortChoice
from twlab.report.html import plan_page

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
    choice=st.sampled_from([choice.value for choice in PortChoice]),
    tw_reuse=st.integers(0, 2),
    loopback=st.booleans(),
    keep_alive=st.booleans(),
    without_timestamps=st.integers(0, 1),
    hz=st.sampled_from([100, 250, 300, 1000]),
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
    planned = ways(Demand(rate_per_s=500, life_s=0))
    exact = {"as-asked": 470.5, "time-wait-30": 941.1, "time-wait-15": 1882.1, "time-wait-10": 2823.2}
    assert {name: round(planned[name].ceiling_per_s, 1) for name in exact} == exact
    assert round(planned["wider-range"].ceiling_per_s, 1) == 1075.2
    assert round(planned["more-sources"].ceiling_per_s, 1) == 1882.1


@given(DEMANDS)
def test_a_ceiling_is_four_tuples_over_the_time_that_each_is_held(demand):
    """For every way but the pool, which serves many requests on a connection, and the buckets,
    which hold only some.
    """
    for name, way in ways(demand).items():
        if name not in ("keep-alive", "tw-buckets"):
            assert way.ceiling_per_s == (pytest.approx(way.four_tuples / way.hold_s) if way.hold_s else math.inf)
        assert way.sustained_per_s <= way.ceiling_per_s
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
    demand = replace(demand, closes_first="proxy", choice="connect", tw_reuse=0, without_timestamps=0)
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
            assert hazard.often()
            if hazard.per_day is None:
                assert KINDS[hazard.name].inbound
                continue
            assert hazard.per_day <= hazard.per_connection * demand.rate_per_s * 86_400 * (1 + 1e-9)


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
    slow = replace(slow, delay_s=min(slow.delay_s, 200), closes_first="proxy", choice="connect", tw_reuse=0)
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
        {"busiest": 0.1, "origins": 2},
        {"choice": "best"},
        {"tw_reuse": 3},
        {"without_timestamps": 2},
        {"reserved": "80-70"},
        {"reserved": "many"},
        {"reserved": "1-65535"},
        {"neighbour_per_s": 1000},
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
    """--json is one object; an impossible range is refused, with exit status 2."""
    values = json.loads(run("--rate", "500", "--json", "--out", str(tmp_path / "page.html")).stdout)
    assert (values["four_tuples"], values["needed"], values["left"]) == (28232, 30050, -1818)
    assert (tmp_path / "page.html").exists()
    for wrong in (["--ports", "many"], ["--rate", "0"], ["--ports", "9-3"]):
        done = run(*wrong)
        assert done.returncode == 2
        assert "[bad-plan]" in done.stderr


def advice(**demand):
    return " ".join(make(Demand(**demand)).advice)


def test_there_are_three_answers():
    """900 a second to two origins: sure up to 890, impossible above 939.5; the measured ceiling, 2
    x 452.6 to 457.2, lies between.
    """
    answers = {rate: make(Demand(rate_per_s=rate, origins=2)) for rate in (880, 900, 945)}
    assert [made.asked.answer(rate) for rate, made in answers.items()] == [Answer.SUFFICES, Answer.EDGE, Answer.NOT]
    assert [made.as_dict()["answer"] for made in answers.values()] == ["suffices", "at the edge", "does not suffice"]
    assert [made.advice[0].split(":")[0] for made in answers.values()] == [
        "It suffices",
        "It is at the edge",
        "It does not suffice",
    ]
    assert "Change nothing" not in " ".join(answers[900].advice)
    asked = make(Demand(rate_per_s=1, life_s=0)).asked
    assert asked.sustained_per_s < 452.6 < 457.2 < asked.ceiling_per_s


@pytest.mark.parametrize(
    ("hz", "seconds", "late"), [(250, 60, 2.048), (1000, 60, 4.096), (100, 60, 5.12), (250, 10, 0.256), (250, 1, 0.032)]
)
def test_how_late_the_timer_wheel_is(hz, seconds, late):
    """kernel/time/timer.c: a step of 8^n ticks, for the level that a length falls into; 2.05 s are
    measured for 60 s at 250 ticks.
    """
    assert late_s(seconds, hz) == pytest.approx(late)


def test_bind_before_connect_is_in_the_arithmetic():
    """Ten origins are worth one, and past it bind() fails; the option that mends it restores the
    ten.
    """
    planned = ways(Demand(rate_per_s=2000, origins=10))
    assert (round(planned["bind-first"].ceiling_per_s, 1), planned["bind-first"].error) == (469.8, "bind EADDRINUSE")
    told = advice(rate_per_s=2000, origins=10)
    assert "469.8 a second" in told
    assert "77% of the binds fail with EADDRINUSE" in told
    assert "IP_BIND_ADDRESS_NO_PORT" in told
    bound = make(Demand(rate_per_s=2000, origins=10, choice="bind"))
    assert bound.advice[0].endswith("EADDRINUSE from bind().")
    assert ways(bound.demand)["bind-no-port"].ceiling_per_s == pytest.approx(4697.5, abs=0.1)
    assert make(Demand(rate_per_s=400, choice="bind", tw_reuse=1)).asked.ceiling_per_s == pytest.approx(469.8, abs=0.1)


def test_a_neighbour_that_binds_first_takes_ports_that_reuse_does_not_open():
    """300 a second of it leave 28,232 - 18,030 ports, also with tcp_tw_reuse; a separate range
    gives them back.
    """
    demand = Demand(rate_per_s=400, neighbour_per_s=300)
    assert demand.ports == 28_232 - 18_030
    planned = ways(demand)
    assert planned["as-asked"].answer(400) is Answer.NOT
    assert planned["separate-range"].answer(400) is Answer.SUFFICES
    assert planned["neighbour-no-port"].answer(400) is Answer.SUFFICES
    assert "neighbour-no-port" not in ways(replace(demand, neighbour_per_s=0))
    assert "18,030 ports" in advice(rate_per_s=400, neighbour_per_s=300)
    assert ways(replace(demand, tw_reuse=1))["as-asked"].four_tuples == demand.ports


@pytest.mark.parametrize(
    ("demand", "full", "cores"),
    [({"rate_per_s": 250}, "53%", 0.67), ({"rate_per_s": 500, "port_low": 10_000, "port_high": 59_999}, "60%", 2.4)],
)
def test_past_half_the_range_the_processor_is_named(demand, full, cores):
    """No "change nothing" where several processors are busy with looking for ports; a range of the
    socket's own ends that.
    """
    made = make(Demand(**demand))
    assert made.asked.search_cores == pytest.approx(cores, rel=0.02)
    assert f"The range is {full} full" in " ".join(made.advice)
    assert "Change nothing" not in " ".join(made.advice)
    assert make(Demand(**demand, choice="range")).asked.search_cores == 0
    assert make(Demand(rate_per_s=200)).asked.search_cores == 0


def test_requests_on_a_connection_last_as_long_as_they_take():
    """20 a second for an hour each: 28,232 x 100 / 360,060 requests a second in a pool, and the
    pool is not advised.
    """
    made = make(Demand(rate_per_s=20, life_s=3600))
    assert round(ways(made.demand)["keep-alive"].ceiling_per_s, 2) == 7.84
    assert "requests on a connection" not in " ".join(made.advice)


def test_an_odd_number_of_ports_is_one_less():
    """As connect() searches it; a range of the socket's own is searched whole; one port is one."""
    ports = {n: Demand(rate_per_s=1, port_low=40_000, port_high=40_000 + n - 1) for n in (1, 5, 6, 101)}
    assert {n: demand.ports for n, demand in ports.items()} == {1: 1, 5: 4, 6: 6, 101: 100}
    assert replace(ports[5], choice="range").ports == 5


@pytest.mark.guest
@pytest.mark.parametrize(
    ("ports", "choice"), [(5, "connect"), (5, "bind"), (6, "connect"), (101, "connect"), (5, "range")]
)
def test_as_many_ports_are_found_as_the_plan_counts(tmp_path, ports, choice):
    """In the lab kernel, before the first failure: never fewer; of an odd number at most the one
    more that is not sure.
    """
    counted = Demand(rate_per_s=1, port_low=40_000, port_high=40_000 + ports - 1, choice=choice).ports
    first = {before for before, _ in run_in_guest(found, ports, choice, 2 * ports, 6, folder=tmp_path)}
    assert min(first) >= counted
    assert max(first) <= ports
    assert counted == ports or choice != "range"


def test_what_is_so_already_can_be_said():
    """Reserved ports, an uneven load, tcp_tw_reuse, loopback, no keep-alive, origins without
    timestamps.
    """
    assert Demand(rate_per_s=1, reserved="8080,40000-40099").ports == 28_132
    assert Demand(rate_per_s=1, origins=4, busiest=0.5).four_tuples == 2 * 28_232
    assert make(Demand(rate_per_s=1, life_s=0, tw_reuse=1)).asked.ceiling_per_s == 28_232
    assert make(Demand(rate_per_s=1, life_s=0, loopback=True)).asked.ceiling_per_s == 28_232
    assert "tcp_tw_reuse=2" in advice(rate_per_s=1000, loopback=True)
    lacking = {"rate_per_s": 1500, "origins": 2, "tw_reuse": 1, "without_timestamps": 1}
    assert round(make(Demand(**lacking)).asked.ceiling_per_s, 1) == 939.5
    assert "1 of 2 origins have no timestamps" in advice(**lacking)
    assert "requests on a connection" not in advice(rate_per_s=500, keep_alive=False)
    assert not ways(Demand(rate_per_s=500, keep_alive=False))["keep-alive"].advised


def test_reuse_that_does_not_help_has_three_reasons():
    """tcp_tw_reuse=1, timestamps on, and still EADDRNOTAVAIL."""
    told = advice(rate_per_s=500, tw_reuse=1)
    assert all(
        words in told
        for words in (
            "EADDRNOTAVAIL all the same",
            "timestamps off at the origin",
            "bind() first",
            "open, and not closed",
        )
    )
    assert make(Demand(rate_per_s=500, tw_reuse=1, life_s=60)).asked.answer(500) is Answer.NOT


def test_what_sustains_is_not_what_is_advised():
    """No tick beside what the text advises against; 60 s are no rebuilt kernel; inbound connects
    have no number a day.
    """
    done = run("--rate", "500")
    marks = {
        line.split()[1]: line.split()[0]
        for line in done.stdout.splitlines()
        if len(line.split()) > 1 and line[0] in "✓~✗!"
    }
    assert {
        name: marks[name] for name in ("tw-recycle", "tw-buckets", "linger-0", "time-wait-1", "tw-reuse", "as-asked")
    } == {
        "tw-recycle": "!",
        "tw-buckets": "!",
        "linger-0": "!",
        "time-wait-1": "!",
        "tw-reuse": "✓",
        "as-asked": "✗",
    }
    assert "built" not in ways(Demand(rate_per_s=500))["time-wait-60"].where
    assert "50% of inbound" in " ".join(done.stdout.split())
    assert "38,880,000" not in done.stdout
    recycled = next(way for way in make(Demand(rate_per_s=900)).as_dict()["ways"] if way["name"] == "tw-recycle")
    assert (recycled["advised"], recycled["hazards"][0]["name"], recycled["hazards"][0]["per_day"]) == (
        False,
        "recycle-nat",
        None,
    )


def test_the_page_has_the_three_answers_too(tmp_path):
    """In words, with the errno that is seen past the ceiling, and what is not advised."""
    plan_page.write(make(Demand(rate_per_s=900, origins=2)), tmp_path / "plan.html")
    text = (tmp_path / "plan.html").read_text()
    assert all(
        words in text
        for words in ("at the edge", "does not suffice", "suffices; not advised", "bind EADDRINUSE", "890.4-939.5")
    )


def test_the_command_takes_what_is_so():
    """Every option; a short plan of all of them is JSON."""
    options = [
        "--busiest",
        "0.6",
        "--reserved",
        "8080",
        "--choice",
        "bind-no-port",
        "--neighbour",
        "10",
        "--tw-reuse",
        "1",
        "--loopback",
    ]
    values = json.loads(
        run(
            "--rate",
            "700",
            "--origins",
            "2",
            *options,
            "--hz",
            "1000",
            "--no-keep-alive",
            "--no-timestamps-at",
            "1",
            "--json",
        ).stdout
    )
    assert values["demand"]["busiest"] == 0.6
    assert values["margin"]["late_s"] == pytest.approx(4.096)
