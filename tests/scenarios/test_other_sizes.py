"""Scenarios at sizes that are not their own: predictions that follow the kernel's rule, or none."""

import pytest

from twlab.catalogue import load_scenarios
from twlab.engines import choose
from twlab.overrides import Overrides
from twlab.planner.syn_schedule import syn_schedule
from twlab.run.runner import AGENT, Order, run
from twlab.settings import Settings

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


@pytest.mark.parametrize(
    ("settings", "at_once", "syns_s", "end_s"),
    [
        ({"syn_retries": 1, "syn_linear_timeouts": 2}, True, (0, 0.01, 1.01, 2.01), 4.01),
        ({"syn_retries": 1, "syn_linear_timeouts": 2}, False, (0, 1, 2), 3),
        ({"syn_retries": 1, "syn_linear_timeouts": 10}, True, (0, 0.01, 1.01, 2.01), 3.01),
        ({"syn_retries": 3}, False, (0, 1, 3, 7), 15),
        ({"syn_retries": 6, "syn_linear_timeouts": 4}, False, (0, 1, 2, 3, 4, 5, 7, 11, 19, 35, 67), 131),
        ({"syn_retries": 7}, True, (0, 0.01, 2.01, 6.01, 14.01, 30.01, 62.01, 126.01), 246.01),
    ],
)
def test_syns_go_out_until_the_first_of_two_limits(settings, at_once, syns_s, end_s):
    """The number of SYNs, and the time that the retries take by themselves; 120 s is the longest wait."""
    schedule = syn_schedule(Settings(**settings), at_once=at_once)
    assert schedule.syns_s == pytest.approx(syns_s)
    assert schedule.end_s == pytest.approx(end_s)


def test_an_outage_of_other_retries_is_predicted_by_both_limits():
    """What was measured in the lab kernel; and nothing past the patience of the steps."""
    assert allows("lost-reset", "ack-lost", "time_wait_s=3", took_s=3.072, syns=3)
    assert allows("lost-reset", "reset-lost", "time_wait_s=3", took_s=4.076, syns=4)
    assert allows("lost-reset", "reset-lost", "syn_linear_timeouts=10 time_wait_s=5", took_s=3.084, syns=4)
    assert allows("lost-reset", "ack-lost", "syn_linear_timeouts=10 time_wait_s=5", took_s=3.072, syns=3)
    assert allows("lost-reset", "no-timestamps", "syn_linear_timeouts=10 time_wait_s=5", took_s=3.072, syns=4)
    assert predicted("lost-reset", "reset-lost", "time_wait_s=100 syn_retries=7") is None
    long = "syn_retries=7 patience_s=300 time_wait_s=140"
    assert allows("nat-second-client", "reset-lost", long, gave_up_s=249.393, syns=8)


def test_a_second_client_meets_only_a_time_wait_that_lasts():
    """tcp_rfc1337 keeps it out as long as no gap between two SYNs is longer than TIME_WAIT."""
    for sets in ("patience_s=5", "time_wait_s=5"):
        assert (
            predicted("nat-second-client", "blackout", sets) == CATALOGUE["nat-second-client"].arms["blackout"].expect
        )
    for sets in ("time_wait_s=3", "time_wait_s=3 patience_s=10"):
        assert predicted("nat-second-client", "blackout", sets) is None
    assert predicted("nat-second-client", "many-blackouts", "time_wait_s=10") is None
    assert predicted("nat-second-client", "clock-ahead-rfc1337", "time_wait_s=3") is not None
    assert allows("nat-second-client", "reset-lost-6-s", "time_wait_s=5", connected=1, connect_s=6.203, syns=4)
    assert predicted("nat-second-client", "hiccup", "time_wait_s=2") is None


def test_a_range_of_up_to_128_ports_is_searched_to_the_end():
    """A larger one is not, so that the number of connections is the chance of a search."""
    assert allows("snat-full-range", "control", "last=40031", opened=32, dropped=3, insert_failed=3)
    assert predicted("snat-full-range", "control", "last=40128") is None
