"""Clocks shifted by a gateway: what it does to a segment."""

from contextlib import ExitStack
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twlab import CapabilityError
from twlab.linux import sysctl
from twlab.segment import Flow, parse, with_checksums
from twlab.tuning.timestamp_shift import apply, shift
from twlab.wire.craft import craft

INSIDE, OUTSIDE = "10.0.1.1", "10.2.1.1"
VALUES = st.integers(0, 2**32 - 1)
SHIFTS = st.integers(-(2**31), 2**31)


def packet(source: str, destination: str, flags: str, timestamp: tuple[int, int] | None) -> bytes:
    return craft(
        flow=Flow(source, 40_000, destination, 80),
        flags=flags,
        timestamp=timestamp,
        payload=b"x",
        options=[("MSS", 1460)],
    ).raw


@settings(deadline=None)  # the first segment that is crafted imports Scapy
@given(VALUES, VALUES, SHIFTS)
def test_what_leaves_is_later_and_what_is_echoed_back_is_as_it_was_sent(tsval, tsecr, ahead_ms):
    """The TSval of a node that is ahead is so much later, modulo 2^32; its echo comes back to it as
    the node sent it.
    """
    out = parse(shift(packet(INSIDE, OUTSIDE, "A", (tsval, tsecr)), {INSIDE: ahead_ms}), 0.0)
    assert out.timestamp == ((tsval + ahead_ms) % 2**32, tsecr)
    back = shift(packet(OUTSIDE, INSIDE, "A", (7, out.timestamp[0])), {INSIDE: ahead_ms})
    assert parse(back, 0.0).timestamp == (7, tsval)


@given(VALUES, SHIFTS)
def test_nothing_but_the_timestamp_changes_and_the_checksum_is_right(tsval, ahead_ms):
    """Sequence numbers, options and payload stay; the checksum is made anew."""
    before = packet(INSIDE, OUTSIDE, "A", (tsval, 9))
    after = shift(before, {INSIDE: ahead_ms})
    assert after == packet(INSIDE, OUTSIDE, "A", ((tsval + ahead_ms) % 2**32, 9))
    assert with_checksums(after) == after


def test_what_has_no_timestamp_or_no_shift_passes_as_it_is():
    """So does the echo of a SYN, which means nothing."""
    for raw in (
        packet(INSIDE, OUTSIDE, "A", None),
        packet(OUTSIDE, "10.0.2.1", "A", (1, 2)),
        packet(OUTSIDE, INSIDE, "S", (1, 0)),
    ):
        assert shift(raw, {INSIDE: 5}) == raw


def test_a_gateway_with_a_flow_table_cannot_shift(monkeypatch):
    """What is in the table passes by its rules; so that is said, and no connection hangs."""
    monkeypatch.setattr(sysctl, "exists", lambda name: False)  # a kernel with one clock
    gateway = SimpleNamespace(name="nat", role="gateway", flowtable=True)
    with pytest.raises(CapabilityError) as caught:
        apply(SimpleNamespace(nodes={"nat": gateway}), None, {"c1": 1000}, ExitStack())
    assert caught.value.slug == "no-clocks-past-flow-table"
    assert "--engine guest" in caught.value.remedy
