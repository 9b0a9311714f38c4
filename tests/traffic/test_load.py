"""A load: when its requests arrive, and the account of what became of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twlab.errors import UsageError
from twlab.ports import PortChoice
from twlab.traffic.load import Load, LoadCounts

TARGETS = [("10.0.0.1", 80)]


@given(rate_per_s=st.floats(0.1, 1e5), duration_s=st.floats(0.1, 1e3), at=st.floats(0, 1))
def test_arrivals_are_even(rate_per_s, duration_s, at):
    """At any time, as many requests have arrived as the rate says, the first one at once, to within
    one; in the end, all of them.
    """
    load = Load(rate_per_s=rate_per_s, duration_s=duration_s, targets=TARGETS)
    elapsed_s = at * duration_s
    assert abs(load.arrived(elapsed_s) - elapsed_s * rate_per_s) <= 1
    assert load.arrived(duration_s) == load.total == math.ceil(rate_per_s * duration_s)


@pytest.mark.parametrize(
    "wrong",
    [
        {"rate_per_s": 0},
        {"rate_per_s": math.nan},
        {"duration_s": math.inf},
        {"targets": []},
        {"port_range": (2000, 1000)},
        {"most_open": 0},
        {"requests_per_connection": 2},
    ],
)
def test_what_cannot_be_is_refused(wrong):
    """A load that makes no sense is told so."""
    with pytest.raises(UsageError, match="not possible"):
        Load(**{"rate_per_s": 1, "duration_s": 1, "targets": TARGETS, **wrong})


def test_a_port_choice_may_be_given_by_its_name():
    """As it comes from a command line or from JSON."""
    assert Load(rate_per_s=1, duration_s=1, targets=TARGETS, ports="range").ports is PortChoice.RANGE


def test_a_tally_adds_up():
    """The sums are those of the rows; the first failure keeps its time."""
    tally = LoadCounts()
    tally.now.attempted, tally.now.connected = 3, 2
    tally.fail("connect", "EADDRNOTAVAIL", 0.5)
    for took_s in (1e-5, 2e-5, 9e-5):
        tally.connect_took(took_s)
    tally.close_second(in_time_wait=2, still_open=0, cpu_s=0.25)
    tally.open_second(1)
    tally.now.attempted = 1
    tally.fail("connect", "EADDRNOTAVAIL", 1.5)
    result = tally.as_dict()
    assert (result["attempted"], result["connected"], result["failed"], result["first_failure_s"]) == (
        4,
        2,
        {"connect EADDRNOTAVAIL": 2},
        0.5,
    )
    first = result["seconds"][0]
    assert (first["connect_median_us"], first["connect_worst_us"], first["in_time_wait"], first["cpu_s"]) == (
        20.0,
        90.0,
        2,
        0.25,
    )
