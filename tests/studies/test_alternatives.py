"""The ways out, measured: the table's rows, what counts as harm, and that plan and measurement
agree.
"""

import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import ROOT

from twlab.catalogue import load_scenarios
from twlab.observation import Range
from twlab.overrides import Overrides
from twlab.planner.plan import Demand, make
from twlab.planner.ways import BUCKETS
from twlab.ports import LINUX_PORTS, WIDEST_PORTS
from twlab.studies import batch
from twlab.studies.alternatives import scenario as sustained
from twlab.studies.alternatives import table
from twlab.studies.alternatives.harm import HARM
from twlab.studies.alternatives.page import page
from twlab.studies.alternatives.table import ALTERNATIVES, UNDER, as_csv, runs, summary
from twlab.traffic.load import Load

CATALOGUE = load_scenarios()
SOURCE = str(sustained.__file__)


def facts(prediction):
    """A prediction as if it had been observed: of a range, its lower end."""
    return {name: (value.low or 0) if isinstance(value, Range) else value for name, value in prediction.items()}


def test_every_way_is_measured_and_every_measurement_is_a_row():
    """The arms of the measuring scenario are the rows of the table, in the same order but for the
    groups.
    """
    assert {row.arm for row in ALTERNATIVES} == set(table.MEASURED.arms)
    assert len(ALTERNATIVES) == len(table.MEASURED.arms)
    assert {row.under for row in ALTERNATIVES} == set(UNDER)


@pytest.mark.parametrize("name", HARM)
def test_harm_is_what_a_treatment_predicts_and_the_control_does_not(name):
    """So a scenario that is said to do harm is one whose own claim is that harm. tw-reuse-safe
    claims that it does none.
    """
    scenario = CATALOGUE[name]
    assert not HARM[name].done(facts(scenario.arms["control"].expect))
    harmful = [
        arm
        for arm, role in scenario.roles.items()
        if role == "treatment" and HARM[name].done(facts(scenario.arms[arm].expect))
    ]
    assert bool(harmful) != (name in ("tw-reuse-safe", "reordered-close", "old-ack-in-syn-sent"))


def test_each_way_is_judged_by_its_settings_with_and_without_timestamps():
    """The full TIME_WAIT always, for comparison; scenarios that show one way only for that;
    recycle-nat with the clocks that it is about.
    """
    row = next(row for row in ALTERNATIVES if row.arm == "time-wait-10")
    made = runs(CATALOGUE, [row])
    assert {job.under for job in made} == {None, ("full", True), ("time-wait-10", True), ("time-wait-10", False)}
    assert {pair for job in made if job.scenario == "recycle-nat" for pair in job.sets if "timestamps" in pair} == {
        "timestamps=0"
    }
    assert all("time_wait_s=10" in job.sets for job in made if job.under and job.under[0] == "time-wait-10")
    assert not {"linger-truncation", "overflow"} & {job.scenario for job in made}
    lingering = runs(CATALOGUE, [row for row in ALTERNATIVES if row.arm == "linger-0"])
    assert "linger-truncation" in {job.scenario for job in lingering}
    assert all(job.arm in (table.MEASURED if job.under is None else CATALOGUE[job.scenario]).arms for job in made)


def test_a_row_tells_what_was_measured_and_what_was_not():
    """What could not be measured is no figure, with the reason; harm is named once, in the order of
    the list; lists become one cell of the CSV.
    """
    row = next(row for row in ALTERNATIVES if row.arm == "time-wait-1")
    done = [
        (
            job,
            {"observed": {"foreign_bytes": 400, "harmed": 1}, "error": None}
            if job.under
            else {"observed": None, "error": {"message": "none"}},
        )
        for job in reversed(runs(CATALOGUE, [row]))
    ]
    values = summary(done, [row], command="twlab alternatives time-wait-1")
    (made,) = values["rows"]
    assert (made["sustained_per_s"], made["error"]) == (None, "none")
    assert made["does_harm"][:2] == ["stale-data", "stale-data-unrelated-isn"]
    assert len(set(made["does_harm"])) == len(made["does_harm"])
    assert made["judged"] > 0
    assert "stale-data; stale-data-unrelated-isn" in as_csv([made])
    assert values["judged"] == made["judged"] + sum(job.under == ("full", True) for job, _ in done)
    assert "Not measured: `time-wait-1`" in page(values)


def changed(arm, low, high):
    return Overrides.parse(sustained.with_ports(arm, low, high), [table.MEASURED])


@pytest.mark.parametrize("row", ALTERNATIVES, ids=lambda row: row.arm)
def test_with_other_ports_a_row_is_the_same_in_proportion(row):
    """Its own ports change nothing. With ten times as many, ten times the rate is predicted, and is
    tried from ten times the first rate on, up to ten times the most.
    """
    assert sustained.with_ports(row.arm, sustained.LOW, sustained.HIGH) == ()
    own, many = table.MEASURED.arms[row.arm], changed(row.arm, 30_000, 30_000 + 10 * sustained.PORTS - 1)
    few, more = own.expect["sustained_per_s"], table.MEASURED.prediction(row.arm, many)["sustained_per_s"]
    assert more.low == pytest.approx(10 * few.low, rel=2e-3)
    assert (more.high is None) == (few.high is None)
    if few.high:
        assert more.high == pytest.approx(10 * few.high, rel=2e-3)
    before, given = table.MEASURED.given_in(row.arm, Overrides()), table.MEASURED.given_in(row.arm, many)
    for name in ("first_per_s", "most_per_s", "ports_of"):
        assert given[name] == pytest.approx(10 * before[name])


def test_at_full_size_the_ranges_are_those_of_linux():
    """Also the wider one, which the socket's own option asks for in vain."""
    settings = changed("control", *LINUX_PORTS).settings
    assert (settings.port_low, settings.port_high) == LINUX_PORTS
    settings = changed("wider-range", *LINUX_PORTS).settings
    assert (settings.port_low, settings.port_high) == WIDEST_PORTS
    assert changed("socket-port-range", *LINUX_PORTS).given["last_port"] == WIDEST_PORTS[1]
    assert changed("tw-buckets", *LINUX_PORTS).settings.max_tw_buckets == BUCKETS


def test_no_rate_is_tried_that_the_lab_cannot_put_on():
    """At full size 56 times the most would be 925,106 a second, and a load runs out of files before."""
    full = changed("linger-0", *LINUX_PORTS)
    assert table.MEASURED.given_in("linger-0", full)["most_per_s"] == 163_840
    assert table.MEASURED.prediction("linger-0", full)["sustained_per_s"].low == 163_840


def test_what_takes_long_has_a_boot_for_itself():
    """So that kill -9 costs one measurement, not eight."""
    assert [list(part) for part in batch.parts(12, 2)] == [[0], [1], [*range(2, 10)], [10, 11]]
    assert batch.whole(12, {0, 10, 11}, 2) == {0, 10, 11}
    assert batch.task([], 1)["long"] is False


class Limited(sustained._Trials):
    """Trials of something that sustains `limit_per_s`; the rates that were tried."""

    def __init__(self, limit_per_s):
        load = Load(rate_per_s=2.0, duration_s=800.0, targets=[("10.3.1.1", 80)])
        super().__init__(SimpleNamespace(step=str, require=self.holds), load, 4, 65.0, 16_384.0)
        self.limit_per_s, self.tried = limit_per_s, []

    def holds(self, premise, text):
        assert premise, text

    def _suffices(self, rate_per_s):
        self.tried.append(rate_per_s)
        return rate_per_s <= self.limit_per_s


@pytest.mark.parametrize("guess", [0.0, 2.0, 300.0, 445.0, 450.0, 455.0, 16_384.0, 1e6])
@pytest.mark.parametrize("limit", [2.0, 449.0, 16_383.0, 16_384.0])
def test_a_search_finds_the_limit_whatever_the_guess(limit, guess):
    """To 2 %, and never above it; the most is found as the most."""
    found = Limited(limit).search(guess)
    assert limit / sustained.NEAR <= found * (1 + 1e-9) and found <= limit


def test_a_search_that_begins_near_the_limit_is_short():
    """Two trials where the guess is right, and one where nothing is limited. Without a guess, eleven."""
    for limit, guess, count in ((452.0, 449.0, 2), (449.0, 455.0, 3), (16_384.0, 16_384.0, 1), (452.0, 0.0, 11)):
        trials = Limited(limit)
        trials.search(guess)
        assert len(trials.tried) <= count, trials.tried


def test_a_search_has_to_begin_below_the_limit():
    """The first rate is a premise, also of one that begins at a guess and goes down to it."""
    for guess in (0.0, 300.0):
        with pytest.raises(AssertionError, match="the first rate is below the limit"):
            Limited(1.5).search(guess)


@pytest.mark.guest
@pytest.mark.parametrize(
    "names, high",
    [(["time-wait-1", "wider-range", "tw-reuse-delay-100-ms"], 50_199), (["time-wait-1"], 51_999)],
    ids=["few", "many"],
)
def test_rows_of_other_ports_are_as_planned(names, high):
    """Ways whose range is not that of the others, with 200 ports, which are few; one with 2,000, of
    which 500 come first.
    """
    arms = [(SOURCE, name, sustained.with_ports(name, 50_000, high)) for name in names]
    results = dict(batch.run(arms, seed=1, kernels=2, long=1))
    assert {name: (results[n]["ok"], results[n]["mismatches"]) for n, name in enumerate(names)} == {
        name: (True, []) for name in names
    }


@pytest.mark.guest
def test_plan_and_measurement_agree():
    """Ways that a plan knows sustain in the lab kernel what it says: at most 2 % more, and less
    only by what Linux's timers are late.
    """
    few = make(Demand(rate_per_s=1, port_low=sustained.LOW, port_high=sustained.LOW + sustained.PORTS - 1, life_s=0))
    planned = {way.name: way.ceiling_per_s for way in few.ways}
    names = ["time-wait-10", "time-wait-1", "tw-reuse", "socket-port-range"]
    results = dict(batch.run([(SOURCE, name, []) for name in names], seed=1, kernels=2))
    for number, name in enumerate(names):
        measured = results[number]["observed"]
        assert measured["limited"], name
        assert 0.94 * planned[name] <= measured["sustained_per_s"] <= 1.02 * planned[name], name


@pytest.mark.guest
def test_several_kernels_carry_out_what_one_would():
    """Results bear the number of their arm; settings are the job's; a scenario that cannot be found
    is that arm's result, and the others are done.
    """
    cut = ["time_wait_s=1", "timestamps=0"]
    arms = [
        ("stale-data", "treatment", cut),
        ("stale-data", "treatment", ["time_wait_s=60", "timestamps=0"]),
        ("no-such", "control", []),
    ]
    results = dict(batch.run(arms, seed=1, kernels=2))
    assert HARM["stale-data"].done(results[0]["observed"])
    assert not HARM["stale-data"].done(results[1]["observed"])
    assert results[2]["error"]["slug"] == "no-such-scenario"


@pytest.mark.guest
def test_the_command_writes_its_table(tmp_path):
    """JSON, CSV and Markdown; an unknown name is refused."""
    command = [sys.executable, "-m", "twlab", "alternatives"]
    environment = {**os.environ, "NO_COLOR": "1"}
    done = subprocess.run(
        [*command, "time-wait-1", "--no-judge", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "alternatives.json").read_text())
    assert values["rows"][0]["as_planned"] is True
    assert "time-wait-1" in (tmp_path / "alternatives.md").read_text()
    assert "time-wait-1" in (tmp_path / "alternatives.csv").read_text()
    wrong = subprocess.run([*command, "prayer"], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert wrong.returncode == 2
    assert "[no-such-alternative]" in wrong.stderr


@pytest.mark.parametrize("ports", ["40000", "40499-40000", "40000-70000", "40000-40010"])
def test_ports_that_cannot_be_measured_are_refused(ports, tmp_path):
    """No range, or one in which a rate is not found to 2 %."""
    command = [sys.executable, "-m", "twlab", "alternatives", "--ports", ports, "--out", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert "[bad-setting]" in done.stderr
    assert not (tmp_path / "none").exists()
