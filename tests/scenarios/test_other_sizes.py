"""Scenarios at sizes that are not their own: predictions that follow the kernel's rule, or none."""

from types import SimpleNamespace

import pytest

from twlab.catalogue import load_scenarios
from twlab.engines import choose
from twlab.overrides import Overrides
from twlab.planner.syn_schedule import syn_schedule
from twlab.proxies.squid import binds_first, connect_failed
from twlab.run.runner import AGENT, Order, run
from twlab.scenarios.stale_data_unrelated_isn import largest_window
from twlab.segment import Options
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
    own = own.on("7.3.4-twlab")
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


def test_two_origins_of_nginx_are_both_taken_out_by_a_shortage():
    """As in nginx-two-servers: what the ports allow is answered, and then nothing for ten seconds."""
    for sets, answered in (
        ("rate_per_s=100", 120),
        ("port_high=40019", 40),
        ("rate_per_s=65 duration_s=30", 360),
        ("rate_per_s=62", 120),
    ):
        assert allows("nginx-exhaustion", "origins", sets, answered=answered, client_sees="502")
        assert allows("nginx-exhaustion", "origins-source", sets, answered=answered)
    assert predicted("nginx-exhaustion", "origins", "rate_per_s=60") is None


def test_addresses_that_are_drawn_are_short_of_ports_before_their_sum_is():
    """100 a second of 120 are too near: nginx's hash and Squid's lot fall unevenly. HAProxy takes turns."""
    for name in ("nginx-exhaustion", "squid-exhaustion"):
        assert predicted(name, "sources", "rate_per_s=100") is None
        assert predicted(name, "sources", "rate_per_s=130") is None
        assert allows(name, "sources", "rate_per_s=60", answered=240, refused=0)
    assert allows("nginx-exhaustion", "sources", "rate_per_s=250", client_sees="502", answered=480)
    assert allows("haproxy-exhaustion", "sources", "rate_per_s=105", answered=420)


def test_squid_says_what_the_call_before_connect_did():
    """It binds first wherever it names addresses; ten failures in a row need a shortage that long."""
    says = "Cannot bind (98) Address already in use" if binds_first() else connect_failed()
    assert allows("squid-exhaustion", "sources", "rate_per_s=300", proxy_says=says, refused=650)
    assert allows("squid-exhaustion", "close", "rate_per_s=60", client_sees="502 503", proxy_says=connect_failed())
    for sets in ("rate_per_s=32", "rate_per_s=34"):
        assert predicted("squid-exhaustion", "close", sets) is None


@pytest.mark.parametrize(
    ("arm", "sets", "observed"),
    [
        ("above", "sources=2 origins=2 rate_per_s=60", {"failed": 22, "most_in_time_wait": 100}),
        ("above", "sources=2 origins=3 rate_per_s=180", {"failed": 66, "most_in_time_wait": 300}),
        ("bind-first", "sources=2 origins=2 rate_per_s=60", {"failed": 22, "most_in_time_wait": 100}),
        ("above", "port_high=40048", {"failed": 13, "first_failure_s": 1.64, "most_in_time_wait": 49}),
        ("bind-first", "port_high=40048", {"failed": 13, "first_failure_s": 1.6, "most_in_time_wait": 48}),
        ("above", "port_high=40008", {"failed": 72, "most_in_time_wait": 9}),
        ("above", "time_wait_s=0.1 rate_per_s=600", {"failed": 432, "most_in_time_wait": 44}),
        ("tw-reuse", "tw_reuse_delay_ms=1500 rate_per_s=29", {"failed": 0}),
    ],
)
def test_ports_are_counted_as_the_load_and_the_kernel_count_them(arm, sets, observed):
    """Pairs of address and origin in lockstep; the last of an odd number may be found; samples lag a tick."""
    assert allows("port-exhaustion", arm, sets, **observed)


def test_a_port_comes_back_after_tw_reuse_delay():
    """Not after a second, if the delay is another; and with TIME_WAIT at the latest."""
    assert predicted("port-exhaustion", "tw-reuse", "tw_reuse_delay_ms=5000 rate_per_s=29") is None
    assert predicted("port-exhaustion", "tw-reuse", "tw_reuse_delay_ms=5000") is None
    assert predicted("nginx-exhaustion", "tw-reuse", "tw_reuse_delay_ms=5000") is None
    assert allows("nginx-exhaustion", "tw-reuse", "tw_reuse_delay_ms=10 rate_per_s=80", refused=0)


def test_a_group_of_clients_is_no_larger_than_their_number():
    """Groups of 2, 5 and 20 of 10 clients are 2, 5 and 10; and a clock that catches up is let in."""
    assert allows("recycle-nat", "fifty-clocks", "clients=10", connects=27, failed=23)
    assert allows("recycle-nat", "fifty-clocks", "clients=3", connects=11, failed=7)
    assert allows("recycle-nat", "fifty-offsets", "clients=10", connects=27, failed=11)
    assert predicted("recycle-nat", "clocks", "apart_s=1 rate_per_s=0.5") is None
    assert predicted("recycle-nat", "clocks", "apart_s=-45") is None
    assert allows("recycle-nat", "clocks", "apart_s=5 rate_per_s=0.5", failed=2)


def test_a_reuse_is_seen_a_thirtieth_late_and_before_time_wait_ends():
    """The client tries each thirtieth of the time that has passed."""
    for delay_ms, seen_s in ((30_000, 30.771), (50_000, 50.331)):
        assert allows("tw-reuse-delay", "3000-ms", f"delay_ms={delay_ms}", reused_after_s=seen_s)
    for sets in ("delay_ms=60000", "time_wait_s=3", "delay_ms=30000 time_wait_s=31"):
        assert predicted("tw-reuse-delay", "3000-ms", sets) is None
        assert predicted("tw-reuse-delay", "control", f"{sets} patience_s=3") is None
    assert allows("tw-reuse-delay", "control", "delay_ms=30000", reopened=False)


def test_gvisor_has_a_prediction_for_its_own_closer_only():
    """Where the other end closes first, the TIME_WAIT is the other's."""
    for arm in ("gvisor", "client-closes"):
        own = CATALOGUE["gvisor-behind-nat"].arms[arm].given.get("client_closes", False)
        assert predicted("gvisor-behind-nat", arm, f"client_closes={'off' if own else 'on'} syn_retries=6") is None
        assert allows("gvisor-behind-nat", arm, "syn_retries=6", connected=40)


def test_a_timer_of_nought_is_not_linux_own():
    """The gateway that forgets at once has no prediction; 60 s is what it has without a setting."""
    assert predicted("half-closed-nat", "quiet", "nat_close_wait_s=0") is None
    assert allows("half-closed-nat", "quiet", "nat_close_wait_s=60", delivered=1000)
    assert predicted("recycle-starvation", "busy", "behind_s=2600000") is None


def test_the_largest_window_is_that_of_the_scaled_offers():
    """The SYN-ACK's is not scaled; RFC 5961's bound is the largest of all."""
    syn_ack = SimpleNamespace(window=65_000, options=Options(window_scale=7))
    later = [SimpleNamespace(window=window) for window in (200, 600, 100)]
    assert largest_window([syn_ack]) == largest_window([syn_ack, later[0]]) == 65_000
    assert largest_window([syn_ack, *later]) == 76_800


@pytest.mark.guest
@pytest.mark.parametrize(
    ("name", "sets", "arm", "slug"),
    [
        ("half-closed-nat", "nat_close_wait_s=0", "quiet", "premise-failed"),
        ("recycle-starvation", "behind_s=2600000", "busy", "bad-setting"),
    ],
)
def test_a_size_that_cannot_be_says_so(name, sets, arm, slug, tmp_path):
    """An error with a remedy, not one of the system or of twlab."""
    assert arms_of(name, sets, tmp_path, [arm])[arm].error["slug"] == slug


@pytest.mark.guest
def test_an_acknowledgement_is_too_old_past_the_largest_window(tmp_path):
    """With a window of 20,000 bytes each segment is taken, or not, as RFC 5961 has it."""
    found = arms_of("stale-data-unrelated-isn", "receive_window=20000", tmp_path, ["acknowledgement"])
    assert found["acknowledgement"].observed["unexplained"] == 0
