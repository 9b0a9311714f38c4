"""Predictions for other sizes than a scenario's own: they scale where they can, and are
missing where they cannot.
"""

import json
import os
import subprocess
import sys

import pytest
from conftest import ROOT

from twlab import Arm, Observation, Settings, scenario
from twlab.catalogue import load_scenarios
from twlab.commands.verdict_table import show_table
from twlab.observation import Range
from twlab.overrides import Overrides
from twlab.planner.shortage import Shortage
from twlab.report.html import wording
from twlab.results.result import ArmResult, Result, read_result
from twlab.run.runner import Finished
from twlab.scenario import Verdict

CATALOGUE = load_scenarios()
SIZED = {name: s for name, s in CATALOGUE.items() if set(s.parameters) - {"family"}}
ARMS = [pytest.param(name, arm, id=f"{name}-{arm}") for name, s in CATALOGUE.items() for arm in s.arms]


def other(value):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    return value + "x" if isinstance(value, str) else value * 2 + 7


def agree(scaled, own):
    """Whether two predictions allow a common observation, in the facts that both name."""

    def bounds(fact):
        low, high = (fact.low, fact.high) if isinstance(fact, Range) else (fact, fact)
        return (-1e99 if low is None else low), (1e99 if high is None else high)

    def common(one, two):
        if not isinstance(one, Range) and not isinstance(two, Range):
            return one == two
        (low, high), (low2, high2) = bounds(one), bounds(two)
        return low <= high2 and low2 <= high

    return [name for name in scaled if name in own and not common(scaled[name], own[name])]


@pytest.mark.parametrize(("name", "arm"), ARMS)
def test_what_is_not_changed_keeps_its_prediction(name, arm):
    """Without --set; with the same values; with the other family; and with a setting that is no
    size.
    """
    made = CATALOGUE[name]
    own = made.arms[arm].expect
    same = {**made.parameters, **made.arms[arm].given}
    for overrides in (None, Overrides(), Overrides(given=same), Overrides(Settings(sack=False))):
        assert made.prediction(arm, overrides) is own
    if "family" in same:
        assert made.prediction(arm, Overrides(given={"family": 6})) is own


@pytest.mark.parametrize(("name", "arm"), ARMS)
def test_every_argument_that_is_changed_has_a_prediction_for_it_or_none(name, arm):
    """Never the one of the old size, unless the scenario says that it is the same; and a prediction
    that names facts.
    """
    made = CATALOGUE[name]
    own = {**made.parameters, **made.arms[arm].given}
    for argument in set(own) - {"family"}:
        overrides = Overrides(given={argument: other(own[argument])})
        assert made.resized(arm, overrides) == overrides.given
        predicted = made.prediction(arm, overrides)
        assert predicted is None or len(predicted)
        if not made.predict:
            assert predicted is None


@pytest.mark.parametrize("release", ["6.1.192-twlab", "7.3.4-twlab"])
@pytest.mark.parametrize(("name", "arm"), [p for p in ARMS if CATALOGUE[p.values[0]].predict])
def test_what_scales_says_at_its_own_size_what_the_scenario_says(name, arm, release):
    """So that the rule and the numbers written into the file cannot part, on older kernels either."""
    made = CATALOGUE[name].on(release)
    given = {**made.parameters, **made.arms[arm].given}
    scaled = made.predict(arm, lambda node: made.settings_for(arm, node), given)
    assert scaled is None or agree(scaled.on(release), made.arms[arm].expect.on(release)) == []


@pytest.mark.parametrize(
    ("name", "arm", "settings", "given", "expected"),
    [
        ("squid-exhaustion", "never-dead", {}, {"duration_s": 20.0}, {"answered": 599}),
        (
            "nginx-exhaustion",
            "as-it-comes",
            {"time_wait_s": 60, "port_low": 40_000, "port_high": 42_822},
            {"duration_s": 70.0},
            {"answered": 3220},
        ),
        ("haproxy-exhaustion", "tcp", {"port_high": 40_999}, {}, {"answered": 200, "refused": 0}),
        ("port-exhaustion", "above", {"port_high": 40_099}, {}, {"failed": 0}),
        ("recycle-nat", "clocks", {}, {"clients": 10}, {"failed": 9, "connects": 10}),
        (
            "recycle-starvation",
            "busy",
            {},
            {"behind_s": 3600.0, "busy_s": 90.0},
            {"locked_out_s": 60.05, "let_in_while_busy": 0},
        ),
        ("nat-second-client", "many-hiccups", {}, {"pairs": 500}, {"hurt": 233, "connected": 500}),
        ("stale-segment", "treatment", {}, {"trials": 9, "delay_s": 40.0}, {"harmed": 9}),
        ("stale-segment", "treatment", {}, {"delay_s": 0.5}, {"delayed": 1, "harmed": 0}),
    ],
)
def test_known_measurements_lie_in_scaled_predictions(name, arm, settings, given, expected):
    """Figures of the pages, which came out as REFUTED when the prediction was the small size's."""
    predicted = CATALOGUE[name].prediction(arm, Overrides(Settings(**settings), given))
    assert predicted is not None
    assert set(expected) <= set(predicted)
    assert Observation(**{fact: predicted[fact] for fact in expected}).mismatches(expected) == []


def test_near_the_ceiling_nothing_is_predicted():
    """30 a second of 50 ports and 2 s fail, 22 do not; 25 are the edge."""
    load = {"four_tuples": 50, "hold_s": 2, "duration_s": 10}
    assert [Shortage(rate_per_s=rate, **load).comes for rate in (30, 22, 25)] == [True, False, None]
    assert Shortage(rate_per_s=1000, four_tuples=50, hold_s=2, duration_s=0.05).comes is False


def made_result(**arms):
    return Result(
        scenario="claim",
        hypothesis="It is so.",
        reads="",
        topology="pair",
        engine="guest",
        seed=1,
        command="",
        arms=arms,
    )


def test_an_arm_without_a_prediction_is_not_refuted(tmp_path, capsys):
    """INCONCLUSIVE, with the reason in the table, in the words of the report, and in the JSON; and
    it is read again.
    """
    free = ArmResult("treatment", observed={"failed": 3}, unpredicted={"clients": 9})
    result = made_result(control=ArmResult("control", predicted={"x": 1}, observed={"x": 1}, ok=True), treatment=free)
    assert result.verdict is Verdict.INCONCLUSIVE
    show_table([Finished(result, tmp_path)])
    assert "no prediction for this size (clients=9)" in " ".join(capsys.readouterr().out.split())
    assert "no prediction for this size (clients=9)" in wording.verdict(result)
    assert wording.outcome(free) == "no prediction for this size (clients=9)"
    assert result.summary(tmp_path)["arms"]["treatment"] == {
        "predicted": {},
        "observed": {"failed": 3},
        "ok": None,
        "unpredicted": {"clients": 9},
    }
    result.write(tmp_path)
    assert read_result(tmp_path) == result
    values = json.loads((tmp_path / "result.json").read_text())
    for arm in values["arms"].values():
        del arm["unpredicted"]  # as earlier versions wrote it
    (tmp_path / "result.json").write_text(json.dumps(values))
    assert read_result(tmp_path).arms["treatment"].unpredicted == {}


def test_a_scenario_of_ones_own_needs_no_rule():
    """Then an argument that --set changes leaves the arm without a prediction; a setting does not."""
    arm = Arm(Settings(time_wait_s=1), expect=Observation(x=1))

    @scenario(topology="pair", control=arm, treatment=arm, sizes=["port_high"])
    def claim(lab, *, count: int = 3):
        """It is so."""

    assert claim.prediction("treatment", Overrides(given={"count": 4})) is None
    assert claim.prediction("treatment", Overrides(Settings(time_wait_s=9))) is arm.expect
    assert claim.prediction("treatment", Overrides(Settings(port_high=50_000))) is None


def run(*arguments, cwd):
    command = [sys.executable, "-m", "twlab", "run", *arguments, "--no-report"]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "NO_COLOR": "1", "PYTHONPATH": str(ROOT)},
        check=False,
    )


@pytest.mark.guest
@pytest.mark.parametrize(
    "words",
    [
        (
            "port-exhaustion --arm above --arm bind-first --arm origins --set port_high=40019 --set "
            "rate_per_s=20 --set duration_s=5"
        ),
        "recycle-nat --arm clocks --arm one-clock --set clients=6",
        "nat-second-client --arm many-hiccups --set pairs=30",
        "haproxy-exhaustion --arm tcp --arm origins --set duration_s=6",
        "recycle-starvation --arm busy --set behind_s=3600 --set busy_s=20",
        "stale-segment --arm treatment --set trials=5",
    ],
)
def test_runs_of_another_size_are_judged_by_its_own_prediction(tmp_path, words):
    """Supported where it scales, with exit status 0."""
    done = run(*words.split(), "--json", cwd=tmp_path)
    (result,) = json.loads(done.stdout)
    assert all(arm["ok"] and arm["predicted"] for arm in result["arms"].values()), done.stdout
    assert done.returncode == 0


@pytest.mark.guest
def test_a_run_whose_size_has_no_prediction_is_not_refuted(tmp_path):
    """Without a verdict, with exit status 1."""
    done = run("nat-port-scarcity", "--arm", "control", "--set", "connects=20", "--json", cwd=tmp_path)
    (result,) = json.loads(done.stdout)
    assert (result["verdict"], result["arms"]["control"]["unpredicted"]) == ("INCONCLUSIVE", {"connects": 20})
    assert done.returncode == 1
