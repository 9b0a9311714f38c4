"""Scenarios at sizes that are not their own: predictions that follow the kernel's rule, or none."""

import pytest

from twlab.catalogue import load_scenarios
from twlab.engines import choose
from twlab.overrides import Overrides
from twlab.run.runner import AGENT, Order, run

CATALOGUE = load_scenarios()


def predicted(name, arm, sets=""):
    """The prediction of an arm with what --set says."""
    made = CATALOGUE[name]
    return made.prediction(arm, Overrides.parse(sets.split(), [made]))


def allows(name, arm, sets, **observed):
    """Whether the prediction names these facts, and allows what was measured."""
    own = predicted(name, arm, sets)
    assert own is not None
    assert set(observed) <= set(own)
    return not type(own)(**{fact: own[fact] for fact in observed}).mismatches(observed)


def arms_of(name, sets, folder, arms=()):
    """Run arms in the lab kernel; return them by name."""
    order = Order([(name, CATALOGUE[name])], sets=sets.split(), out=folder, arms=arms)
    (done,) = run(order, choose("guest", agent=AGENT))
    return done.result.arms


@pytest.mark.parametrize(
    ("name", "arm", "sets", "node"),
    [
        ("port-exhaustion", "above", "time_wait_s=1 rate_per_s=40", "proxy"),
        ("port-exhaustion", "above", "port_high=40099", "proxy"),
        ("stale-segment", "treatment", "time_wait_s=3", "client"),
        ("lost-reset", "no-timestamps", "time_wait_s=9", "server"),
        ("half-closed-nat", "quiet", "nat_close_wait_s=30", "nat"),
    ],
)
def test_a_size_of_one_node_is_predicted_with(name, arm, sets, node):
    """NODE:KEY=VALUE gives the prediction that KEY=VALUE gives, if that node decides."""
    first, *rest = sets.split()
    of_node = " ".join([f"{node}:{first}", *rest])
    assert predicted(name, arm, of_node) == predicted(name, arm, sets)
    assert predicted(name, arm, sets) != predicted(name, arm, " ".join(rest))
    made = CATALOGUE[name]
    assert f"{node}:{first.partition('=')[0]}" in made.resized(arm, Overrides.parse(of_node.split(), [made]))


def test_a_size_that_a_node_has_already_is_not_a_change():
    """As with KEY=VALUE."""
    own = CATALOGUE["port-exhaustion"].arms["above"].expect
    assert predicted("port-exhaustion", "above", "proxy:time_wait_s=2") is own
    assert predicted("port-exhaustion", "above", "proxy:sack=off") is own


def test_a_segment_is_judged_by_the_length_of_time_wait():
    """1.5 s old, it is delayed by 2 s of TIME_WAIT, and does harm without its timestamp."""
    assert allows("stale-segment", "treatment", "time_wait_s=2", harmed=0, delayed=1)
    assert allows("stale-segment", "timestamp-lost", "time_wait_s=2", harmed=1)
    assert allows("stale-segment", "timestamps", "time_wait_s=2", harmed=0, unharmed=1)


def test_no_prediction_where_paws_allows_a_tick():
    """A segment of some milliseconds may be taken in spite of its timestamp; one of 20 ms is not."""
    for delay_s in (0.001, 0.005, 0.01):
        assert predicted("stale-segment", "timestamps", f"delay_s={delay_s}") is None
    assert allows("stale-segment", "timestamps", "delay_s=0.02 trials=50", harmed=0, unharmed=50)


@pytest.mark.guest
def test_a_segment_one_tick_old_does_harm_in_spite_of_timestamps(tmp_path):
    """Of segments of 5 ms some are harmful; of segments of 20 ms none is."""
    young = arms_of("stale-segment", "delay_s=0.005 trials=50", tmp_path / "young", ["timestamps"])["timestamps"]
    older = arms_of("stale-segment", "delay_s=0.02 trials=50", tmp_path / "older", ["timestamps"])["timestamps"]
    assert (young.ok, older.ok) == (None, True)
    assert young.observed["harmed"] >= 10
    assert older.observed["harmed"] == 0
