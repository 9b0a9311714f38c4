"""The catalogue, run: every scenario that comes with twlab is SUPPORTED on both engines, and every
one of them can fail.
"""

import re
from functools import cache
from pathlib import Path

import pytest
from causes import faults

from twlab.catalogue import load_scenarios
from twlab.engines import choose
from twlab.results.result import Result
from twlab.run.runner import AGENT, Order, run
from twlab.scenario import Verdict

CATALOGUE = load_scenarios()
MOST_TRIES = 4  # beyond the first
# What the host engine need not have: there the arm's message is what is tested.
LAB_KERNEL_ONLY = {"no-ipvs", "no-flow-table", "no-clocks-past-flow-table", "no-tun"}
PER_CATALOGUE = pytest.mark.parametrize("name", CATALOGUE)


def carry_out(
    engine: str, names: tuple[str, ...], folder, arms: tuple[str, ...] = (), folders: dict[str, Path] | None = None
) -> dict[str, Result]:
    order = Order([(name, CATALOGUE[name]) for name in names], arms, out=folder)
    done = run(order, choose(engine, agent=AGENT))
    if folders is not None:
        folders |= {finished.result.scenario: finished.folder for finished in done}
    return {finished.result.scenario: finished.result for finished in done}


@pytest.fixture(scope="session")
def in_the_guest(tmp_path_factory):
    """A function from scenario to result: the whole catalogue in one boot, when the first of them
    is asked for. Its `folders` hold the captures.
    """
    folders: dict[str, Path] = {}

    @cache
    def catalogue():
        return carry_out("guest", tuple(CATALOGUE), tmp_path_factory.mktemp("guest"), folders=folders)

    def result_of(name):
        return catalogue()[name]

    result_of.folders = folders
    return result_of


def what_went_wrong(result: Result) -> str:
    return "\n".join(f"{name}: {arm.error or arm.mismatches}" for name, arm in result.arms.items() if not arm.ok)


@pytest.mark.guest
@pytest.mark.xdist_group("catalogue")
@PER_CATALOGUE
def test_the_lab_kernel_bears_out_every_prediction(name, in_the_guest):
    """Every arm of every scenario shows in the lab kernel what was predicted of it."""
    result = in_the_guest(name)
    assert result.verdict is Verdict.SUPPORTED, what_went_wrong(result)


@pytest.mark.host
@pytest.mark.slow
@PER_CATALOGUE
def test_this_machine_gives_the_same_verdict(name, tmp_path):
    """This machine's kernel, in real time, shows the same; what it lacks for an arm is told by
    name, and skipped, but for what the lab kernel alone is sure to have.
    """
    result = carry_out("host", (name,), tmp_path)[name]
    for _ in range(MOST_TRIES):
        # Where a premise does not hold, a load that a busy machine put on late for one, the arm has
        # said nothing, and is asked again.
        unasked = tuple(arm for arm, run in result.arms.items() if run.error and run.error["slug"] == "premise-failed")
        result.arms |= carry_out("host", (name,), tmp_path, unasked)[name].arms if unasked else {}
    beyond = {arm for arm, run in result.arms.items() if run.error and run.error["slug"] in LAB_KERNEL_ONLY}
    assert all("--engine guest" in result.arms[arm].error["remedy"] for arm in beyond)
    lacking = {
        arm: run.error["message"]
        for arm, run in result.arms.items()
        if run.error and re.match("no-(?!such-node|route)", run.error["slug"]) and arm not in beyond
    }
    wrong = {
        arm: run.error or run.mismatches
        for arm, run in result.arms.items()
        if not run.ok and arm not in beyond | lacking.keys()
    }
    assert not wrong
    if lacking:
        pytest.skip("; ".join(f"{arm}: {message}" for arm, message in lacking.items()))


@pytest.mark.guest
@pytest.mark.xdist_group("catalogue")
@PER_CATALOGUE
def test_a_control_that_is_treated_is_no_control(name, in_the_guest):
    """Give the control what any of the treatments is given, and its prediction fails; and the
    treatments' fail on the control.
    """
    scenario, arms = CATALOGUE[name], in_the_guest(name).arms
    for treatment in (arm for arm, role in scenario.roles.items() if role == "treatment"):
        assert scenario.arms["control"].expect.mismatches(arms[treatment].observed), (
            f"{treatment} shows what the control should"
        )
        assert scenario.arms[treatment].expect.mismatches(arms["control"].observed), (
            f"the control shows what {treatment} should"
        )


@pytest.mark.guest
@pytest.mark.xdist_group("catalogue")
@PER_CATALOGUE
def test_a_remedy_that_is_taken_away_is_missed(name, in_the_guest):
    """What a remedy is predicted to show, at least one treatment does not; where it is said not to
    help, another remedy does not.
    """
    scenario, arms = CATALOGUE[name], in_the_guest(name).arms
    for remedy in (arm for arm, role in scenario.roles.items() if role == "remedy"):
        others = (arm for arm, role in scenario.roles.items() if role != "control" and arm != remedy)
        assert any(scenario.arms[remedy].expect.mismatches(arms[other].observed) for other in others), (
            f"{remedy} predicts what every arm shows"
        )


@PER_CATALOGUE
def test_every_scenario_says_what_it_claims_and_where_from(name):
    """One claim in one sentence, an explanation, and sources."""
    scenario = CATALOGUE[name]
    assert scenario.hypothesis.endswith(".")
    assert scenario.explanation
    assert scenario.reads


@pytest.mark.guest
@pytest.mark.xdist_group("catalogue")
@PER_CATALOGUE
def test_causes_stand_before_effects_and_the_ladder_ends_as_the_kernel_does(name, in_the_guest):
    """In no capture does a segment arrive before it is sent, or an ACK stand before what it
    acknowledges; the last states are the kernel's.
    """
    result, folder = in_the_guest(name), in_the_guest.folders[name]
    wrong = {
        arm: found for arm, run in result.arms.items() if (found := faults(folder / run.capture, run, strict=False))
    }
    assert not wrong
