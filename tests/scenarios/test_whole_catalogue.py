"""The catalogue, run in the lab kernel: every scenario that comes with twlab is SUPPORTED, and every
one of them can fail.
"""

import pytest
from causes import faults
from whole_catalogue import CATALOGUE

from twlab.results.result import Result
from twlab.scenario import Verdict

PER_CATALOGUE = pytest.mark.parametrize("name", CATALOGUE)
pytestmark = pytest.mark.guest


def what_went_wrong(result: Result) -> str:
    return "\n".join(f"{name}: {arm.error or arm.mismatches}" for name, arm in result.arms.items() if not arm.ok)


@PER_CATALOGUE
def test_the_lab_kernel_bears_out_every_prediction(name, in_the_guest):
    """Every arm of every scenario shows in the lab kernel what was predicted of it."""
    result = in_the_guest(name)
    assert result.verdict is Verdict.SUPPORTED, what_went_wrong(result)


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
def test_causes_stand_before_effects_and_the_ladder_ends_as_the_kernel_does(name, in_the_guest):
    """In no capture does a segment arrive before it is sent, or an ACK stand before what it
    acknowledges; the last states are the kernel's.
    """
    result, folder = in_the_guest(name), in_the_guest.folders[name]
    wrong = {
        arm: found for arm, run in result.arms.items() if (found := faults(folder / run.capture, run, strict=False))
    }
    assert not wrong
