"""Predictions against observations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twlab import Observation, about, at_least, at_most, between, since
from twlab.report.text import facts

values = st.one_of(st.booleans(), st.integers(), st.text(), st.floats(allow_nan=False))


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), values))
def test_an_observation_bears_itself_out(facts):
    """What was observed is what would have been the right prediction."""
    assert Observation(**facts).mismatches(Observation(**facts)) == []


def test_only_facts_that_were_predicted_are_compared():
    """An observation may say more than the prediction."""
    assert Observation(a=1).mismatches(Observation(a=1, b=2)) == []


def test_a_fact_that_was_not_observed_is_a_mismatch():
    """A prediction without its observation has not come true."""
    assert Observation(a=1).mismatches(Observation(b=1)) == ["a: predicted 1, observed nothing"]


def test_true_is_not_one():
    """A truth value does not pass for a number, nor the other way round."""
    assert Observation(a=1).mismatches(Observation(a=True))
    assert Observation(a=True).mismatches(Observation(a=1))
    assert Observation(a=at_least(0)).mismatches(Observation(a=True))


@pytest.mark.parametrize(
    ("wanted", "inside", "outside"),
    [
        (between(1, 2), (1, 1.5, 2), (0.99, 2.01, "1", None)),
        (at_least(3), (3, 1e9), (2.9,)),
        (at_most(3), (3, -1), (3.1,)),
        (about(100), (99, 101), (98.9, 101.1)),
        (about(-100), (-99, -101), (100,)),
    ],
)
def test_ranges_hold_inside_and_fail_outside(wanted, inside, outside):
    """A predicted range holds on its edges and fails beyond them."""
    assert all(not Observation(x=wanted).mismatches(Observation(x=value)) for value in inside)
    assert all(Observation(x=wanted).mismatches(Observation(x=value)) for value in outside)


def test_ranges_become_json():
    """A range is written to the result as its two ends."""
    assert Observation(x=at_least(2), y=3).as_dict() == {"x": {"low": 2, "high": None}, "y": 3}


def test_a_prediction_may_depend_on_the_kernel():
    """By its release's numbers, with ranges in it; where the release is not known, it stays open."""
    predicted = Observation(x=since("6.14", between(1, 2), before=0), y=1)
    assert predicted.on("6.14").as_dict() == {"x": {"low": 1, "high": 2}, "y": 1}
    assert predicted.on("6.8.12-twlab").as_dict() == {"x": 0, "y": 1}
    assert predicted.on("10.0")["x"] == between(1, 2)
    assert predicted.on("").as_dict()["x"] == {"since": "6.14", "then": {"low": 1, "high": 2}, "before": 0}
    assert predicted.on("7.3.4").mismatches({"x": 3, "y": 1}) == ["x: predicted between 1 and 2, observed 3"]


def test_a_prediction_may_change_twice():
    """The older change stands in the newer one's ``before``."""
    predicted = Observation(x=since("7.2", 16, before=since("6.12", at_most(2), before=16)))
    releases = ("6.1.0", "6.12.117-twlab", "6.18.44", "7.2.12", "7.10-rc1")
    assert [predicted.on(release)["x"] for release in releases] == [16, at_most(2), at_most(2), 16, 16]
    assert str(predicted["x"]) == "16 since Linux 7.2, at most 2 since Linux 6.12, 16 before"
    written = predicted.as_dict()["x"]
    assert written == {
        "since": "7.2",
        "then": 16,
        "before": {"since": "6.12", "then": {"low": None, "high": 2}, "before": 16},
    }
    assert facts.sentence(written) == str(predicted["x"])
