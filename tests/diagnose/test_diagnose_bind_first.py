"""Who binds before connecting, and when a pool is full: arithmetic on ports and timers, against
programs that draw them.
"""

import numpy as np
import pytest
from diagnose_cases import HIGH, LOW, PORTS, by_bind, by_connect, judged, listening, open_, waiting
from hypothesis import given, settings
from hypothesis import strategies as st

from twlab.diagnose import rate
from twlab.diagnose.bind_first import MIXED, NO, UNKNOWN, YES, Range, judge, judge_by_sharing, own_range

NONE = np.zeros(65536, np.bool_)


def flags(ports):
    made = NONE.copy()
    made[np.array(list(ports), np.int64)] = True
    return made


def span(low=LOW, high=HIGH, reserved=(), **more):
    usable = flags(range(low, high + 1))
    usable[list(reserved)] = False
    return Range(low, high, usable, **more)


def verdict(ports, over=None, no_port=(0, 0)):
    return judge(flags(ports), NONE, flags(ports), no_port, over or span()).verdict


@settings(max_examples=15)
@given(st.integers(50, PORTS // 2 - 500), st.integers(0, 2**32))
def test_either_kind_is_told_up_to_half_the_range(count, seed):
    """From 50 ports on."""
    assert verdict(by_connect(count, seed)) == NO
    assert verdict(by_bind(count, seed)) == YES


@settings(max_examples=15)
@given(st.integers(0, 49), st.integers(0, 2**32))
def test_a_few_ports_tell_nothing(count, seed):
    """Fewer than 50."""
    assert verdict(by_bind(count, seed)) == UNKNOWN


@settings(max_examples=15)
@given(st.integers(int(0.55 * PORTS), PORTS), st.integers(0, 2**32))
def test_past_half_the_range_parity_tells_nothing(count, seed):
    """For both kinds use both parities there."""
    assert verdict(by_connect(count, seed)) == verdict(by_bind(count, seed)) == UNKNOWN


@settings(max_examples=15)
@given(st.integers(50, 5000), st.integers(0, 2**32))
def test_ports_of_either_parity_are_never_called_bind_first(count, seed):
    """A program that names its ports, or has a range to itself."""
    dice = np.random.default_rng(seed)
    assert verdict(dice.choice(np.arange(LOW, HIGH + 1), count, replace=False)) in (MIXED, UNKNOWN)


def test_the_parity_is_that_of_the_low_end():
    """A range that begins at an odd port turns it round; a step width makes it void; an assumed
    range makes it likely.
    """
    even = range(40_000, 41_000, 2)
    assert verdict(even, span(1024, 65_535)) == NO
    assert verdict(even, span(1025, 65_535)) == YES
    assert verdict(even, span(1024, 65_535, step_width=2)) == UNKNOWN
    assumed = judge(flags(even), NONE, flags(even), (0, 0), span(known=False))
    assert (assumed.verdict, assumed.confidence) == (NO, "likely") and "even port" in assumed.why


def test_the_option_of_live_sockets_outweighs_parity():
    """With IP_BIND_ADDRESS_NO_PORT on all of them the answer is no, however few they are."""
    assert verdict(by_bind(20), no_port=(20, 20)) == NO
    assert verdict(by_bind(200), no_port=(0, 20)) == YES


def test_a_few_sockets_with_the_option_do_not_outweigh_thousands_of_ports():
    """One live socket says nothing about 8,000 ports of bind(); 50 of them do."""
    assert verdict(by_bind(8000), no_port=(1, 1)) == MIXED
    assert verdict(by_bind(8000), no_port=(50, 50)) == NO
    assert verdict(by_connect(8000), no_port=(1, 1)) == NO


def test_an_old_kernel_has_no_parity():
    """Linux before 4.6 chooses either, in order: neither a verdict nor a range of its own follows."""
    old = span(kernel=(3, 10))
    assert verdict(by_bind(8000), old) == verdict(by_connect(8000), old) == UNKNOWN
    in_order = flags(range(40_000, 46_000))
    assert own_range(in_order, old) is None and own_range(in_order, span()) is not None


def test_strays_change_no_verdict():
    """Five named ports among 200."""
    assert verdict([*by_connect(195), *by_bind(5)]) == NO
    assert verdict([*by_connect(100), *by_bind(100)]) == MIXED


@settings(max_examples=15)
@given(st.integers(2, 20), st.integers(0, 2**32))
def test_sharing_tells_past_half_the_range(destinations, seed):
    """bind() shares no port between destinations, connect() as many as chance has it."""
    bound = by_bind(PORTS, seed)
    parts = [bound[i::destinations] for i in range(destinations)]
    drawn = [by_connect(len(part), seed + i) for i, part in enumerate(parts)]
    for ports, expected in ((parts, YES), (drawn, NO)):
        counts = np.bincount(np.concatenate(ports), minlength=65536)
        found = judge_by_sharing(counts, np.array([len(part) for part in ports]), span())
        assert found and found.verdict == expected


def test_reserved_ports_count_for_nothing():
    """Neither as room nor as evidence."""
    assert span(reserved=range(LOW, LOW + 1000)).size == PORTS - 1000


@settings(max_examples=15)
@given(st.floats(0.1, 2000), st.floats(1, 59))
def test_a_steady_rate_is_read_off_the_timers(per_s, seconds):
    """Closed so often for so long: the recent rate is that, within a close or a tenth."""
    ages_s = np.arange(0.5 / per_s, seconds, 1 / per_s)
    found = rate.of_closes((60_000 - ages_s * 1000).astype(np.int32), 60.0)
    if not len(ages_s):
        assert found is None
    elif found.window_s <= seconds:
        assert abs(found.recent_per_s - per_s) <= max(1.5 / found.window_s, 0.1 * per_s)


@settings(max_examples=15)
@given(st.integers(0, 5000), st.floats(0, 1000), st.integers(1, 30_000))
def test_a_forecast_is_what_simulation_shows(busy, per_s, capacity):
    """Second by second: ports come back as TIME_WAITs end, and go as connections close."""
    remaining_s = np.linspace(0, 60, 1000)
    made = rate.forecast(busy, remaining_s, per_s, 60.0, capacity)
    held = [busy + int((remaining_s > s).sum()) + per_s * min(s, 60) for s in range(1, 200)]
    full = next((s for s, level in enumerate(held, 1) if level >= capacity), None)
    if busy + 1000 >= capacity:
        assert made.full_in_s == 0
    elif made.full_in_s is None:
        assert full is None or made.level >= capacity - per_s
    else:
        assert full is None or abs(made.full_in_s - full) <= 1.2


@pytest.mark.parametrize(("quiet_s", "over"), [(0, "in "), (20, "never")])
def test_a_burst_that_has_ceased_fills_nothing(quiet_s, over):
    """The rate is then 0."""
    from twlab.diagnose.screen import when_full

    part = judged(
        [
            *listening(80),
            *waiting("10.0.0.1", "10.0.0.2", 80, by_connect(20_000), 1000, quiet_s),
            *open_("10.0.0.1", "10.0.0.2", 81, [LOW]),
        ]
    )
    assert when_full(part.measured.pools[0]).startswith(over)
