"""Settings: names, bounds, layers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twlab import Settings, UsageError
from twlab.settings import describe, parse_setting, setting_names


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("time_wait_s", "10", 10.0),
        ("time_wait_s", "0.5", 0.5),
        ("timestamps", "2", 2),
        ("rfc1337", "on", True),
        ("rfc1337", "0", False),
        ("congestion_control", "reno", "reno"),
    ],
)
def test_a_text_becomes_the_value_it_means(name, text, value):
    """A command line's text becomes a value of the setting's type."""
    assert parse_setting(name, text) == value
    assert type(parse_setting(name, text)) is type(value)


@pytest.mark.parametrize("text", ["-1", "abc", "", "nan", "inf", "0", "1e9", "10s"])
def test_an_impossible_length_is_refused_with_its_bounds(text):
    """time_wait_s takes a number within its bounds and nothing else, and the message says which."""
    with pytest.raises(UsageError, match=r"a number from 0\.001 to 3600") as caught:
        parse_setting("time_wait_s", text)
    assert caught.value.slug == "bad-setting"
    assert caught.value.exit_status == 2


@pytest.mark.parametrize("value", [10**400, -(10**400), 1e400])
def test_a_number_too_large_for_any_float_is_out_of_range_too(value):
    """As a submission's JSON may have it; the message is as short as ever."""
    with pytest.raises(UsageError, match="is out of range") as caught:
        Settings(time_wait_s=value)
    assert len(caught.value.message) < 150


def test_an_unknown_setting_is_answered_with_the_known_ones():
    """A wrong name is answered with the right ones."""
    with pytest.raises(UsageError, match="time_wait_s") as caught:
        parse_setting("timewait", "1")
    assert caught.value.slug == "no-such-setting"


def test_a_scenario_cannot_state_impossible_settings():
    """The bounds hold for scenario files as for the command line."""
    with pytest.raises(UsageError, match="max_tw_buckets"):
        Settings(max_tw_buckets=-5)
    with pytest.raises(UsageError, match="above"):
        Settings(port_low=2000, port_high=1000)


def test_every_setting_says_what_it_is():
    """Each setting has a line of description."""
    assert all(len(describe(name)) > 10 for name in setting_names())


@given(st.floats(0.001, 3600), st.integers(0, 2), st.booleans())
def test_the_upper_layer_wins_and_the_lower_one_fills_in(length, timestamps, rfc1337):
    """over() takes what is given above and keeps the rest from below."""
    below = Settings(time_wait_s=60, timestamps=timestamps)
    above = Settings(time_wait_s=length, rfc1337=rfc1337)
    assert above.over(below) == Settings(time_wait_s=length, timestamps=timestamps, rfc1337=rfc1337)
    assert Settings().over(below) == below
    assert Settings(**above.as_dict()) == above
