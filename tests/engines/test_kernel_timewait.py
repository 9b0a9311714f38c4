"""The lab kernel's sysctls for the length of TIME_WAIT and for the timestamp clock."""

from __future__ import annotations

from pathlib import Path

import kernel_cases
import pytest
from in_guest import run_in_guest

pytestmark = pytest.mark.guest

LENGTHS_MS = [500, 1000, 10_000, 30_000, 60_000, 240_000]


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_time_wait_lives_as_long_as_it_was_told(tmp_path: Path, address: str) -> None:
    """Within 1 % and never shorter, for 0.5, 1, 10, 30, 60 and 240 s, over IPv4 and IPv6."""
    for length_ms, lives_s in run_in_guest(kernel_cases.lives, LENGTHS_MS, address, folder=tmp_path).items():
        print(length_ms, lives_s)
        if length_ms != "0":
            assert all(int(length_ms) / 1000 <= life_s + 0.0005 < int(length_ms) / 1000 * 1.01 for life_s in lives_s)


def test_until_it_is_told_time_wait_lives_as_in_linux(tmp_path: Path) -> None:
    """60 s, and up to an eighth more: Linux's timer wheel is coarse for long timers, and nothing is
    changed about it.
    """
    lives_s = run_in_guest(kernel_cases.lives, [], "127.0.0.1", folder=tmp_path)["0"]
    assert all(60 <= life_s < 60 * 9 / 8 for life_s in lives_s)


def test_defaults_and_bounds(tmp_path: Path) -> None:
    """60000 ms, off, and no offset; what is out of bounds or no number is refused."""
    found = run_in_guest(kernel_cases.bounds, folder=tmp_path)
    assert [found.pop(name) for name in ("tcp_timewait_len", "tcp_tw_recycle", "tcp_timestamp_offset")] == [
        60_000,
        0,
        0,
    ]
    taken = {setting for setting, refusal in found.items() if not refusal}
    assert taken == {
        *("tcp_timewait_len=1", "tcp_timewait_len=3600000", "tcp_tw_recycle=1", "tcp_tw_recycle=0"),
        *("tcp_timestamp_offset=-2147483648", "tcp_timestamp_offset=2147483647", "tcp_timestamp_offset=0"),
    }
    assert {refusal for refusal in found.values() if refusal} == {"EINVAL"}


def test_each_namespace_has_its_own_length(tmp_path: Path) -> None:
    """Setting it in one changes neither another one nor the one they were made in."""
    assert run_in_guest(kernel_cases.namespaces, folder=tmp_path) == [5000, 60_000, 60_000]


def test_rearming_uses_the_length_too(tmp_path: Path) -> None:
    """What re-arms TIME_WAIT in Linux re-arms it to the length that was set: a bare ACK, a repeated
    FIN, old data.
    """
    left = run_in_guest(kernel_cases.rearming, folder=tmp_path)
    assert left == {
        "nothing": pytest.approx(2, abs=0.03),
        "bare ACK": pytest.approx(5, abs=0.03),
        "repeated FIN": pytest.approx(5, abs=0.03),
        "old data": pytest.approx(5, abs=0.03),
    }


@pytest.mark.parametrize(("length_s", "fin_timeout_s"), [(1, 60), (1, 20), (240, 60), (240, 100), (60, 60)])
def test_fin_wait2_keeps_its_own_length_and_hands_over_to_time_waits(
    tmp_path: Path, length_s: int, fin_timeout_s: int
) -> None:
    """An orphan stays in FIN_WAIT2 for tcp_fin_timeout, at any length of TIME_WAIT; the FIN that
    ends it starts TIME_WAIT's.
    """
    found = run_in_guest(kernel_cases.fin_wait2, length_s * 1000, fin_timeout_s, folder=tmp_path)
    assert found["before"] == ["05"]
    [[state, left_s]] = found["after"]
    assert state == "06"
    assert left_s == pytest.approx(length_s, abs=0.02)
    assert found["life_s"] == pytest.approx(fin_timeout_s, abs=0.1)


def test_ss_shows_what_is_left(tmp_path: Path) -> None:
    """Over inet_diag: until TIME_WAIT ends, not until the kernel looks at it next."""
    assert run_in_guest(kernel_cases.shown_by_ss, folder=tmp_path) == ["timer:(timewait,20sec,0)"]


def test_ten_thousand_end_on_time(tmp_path: Path) -> None:
    """None before its time, all soon after the last one's."""
    assert run_in_guest(kernel_cases.many, 10_000, 10_000, folder=tmp_path) == [10_000, 0]


@pytest.mark.parametrize("syncookies", [1, 2])
def test_the_timestamp_clock_is_shifted_for_every_segment(tmp_path: Path, syncookies: int) -> None:
    """SYN-ACK, FIN and the ACK that TIME_WAIT sends show the clock with its offset, and echoes are
    understood: the RTT comes out right.
    """
    found = run_in_guest(kernel_cases.clocks, [45_000, -45_000, 2**31 - 1, -(2**31)], syncookies, folder=tmp_path)
    for offset_ms, seen in found.items():
        tolerance_ms = (
            2 if syncookies == 1 else 64
        )  # a cookie hides options in the lowest six bits of the SYN-ACK's timestamp
        assert seen["late_ms"] == [
            pytest.approx(0, abs=tolerance_ms),
            pytest.approx(100, abs=2),
            pytest.approx(100, abs=2),
        ], offset_ms
        assert seen["rtt_s"] == pytest.approx(0.1, abs=tolerance_ms / 1000), offset_ms


@pytest.mark.parametrize(("timestamps", "shift_ms"), [(0, None), (1, 45_000), (2, 45_000)])
def test_the_timestamp_clock_of_a_client(tmp_path: Path, timestamps: int, shift_ms: int | None) -> None:
    """A kernel's SYN shows the shifted clock, with the random offset and without; none where
    timestamps are off.
    """
    assert run_in_guest(kernel_cases.offset_of_a_client, 45_000, timestamps, folder=tmp_path) == shift_ms
