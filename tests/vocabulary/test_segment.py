"""Segments are read as Scapy reads them, and their numbers live on a circle of 2^32."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twlab.segment import Flow, advance, before, distance, match, parse, with_checksums, without_timestamp
from twlab.wire.craft import craft

NUMBER = st.integers(0, 2**32 - 1)
STEP = st.integers(-(2**31), 2**31 - 1)
FLOW4 = Flow("10.0.1.1", 40_000, "10.2.1.1", 80)
FLOW6 = Flow("fd00:0:0:1::1", 40_000, "fd00:0:2:1::1", 80)
FLOW = st.sampled_from([FLOW4, FLOW6])
FLAGS = st.integers(0, 63).map(lambda bits: "".join(letter for bit, letter in enumerate("FSRPAU") if bits >> bit & 1))
STAMP = st.none() | st.tuples(NUMBER, NUMBER)
EXTRA = [("MSS", 1460), ("WScale", 7), ("SAckOK", b""), ("SAck", (1, 2, 3, 2**32 - 1)), ("NOP", None), ("EOL", None)]


@given(NUMBER, STEP)
def test_distance_is_what_advance_went(a, by):
    """distance() undoes advance(), across the wrap as well."""
    assert distance(a, advance(a, by)) == by


@given(NUMBER, st.integers(1, 2**31 - 1))
def test_before_goes_the_shorter_way_round(a, by):
    """A number is before those up to 2^31 - 1 steps on, not before itself, and those are not before
    it.
    """
    assert before(a, advance(a, by))
    assert not before(advance(a, by), a)
    assert not before(a, a)


def test_half_a_circle_apart_each_is_before_the_other():
    """As with Linux's before(), which is (s32)(a - b) < 0."""
    assert before(0, 2**31)
    assert before(2**31, 0)


@given(
    FLOW,
    FLAGS,
    NUMBER,
    NUMBER,
    st.binary(max_size=60),
    st.integers(0, 65535),
    STAMP,
    st.lists(st.sampled_from(EXTRA), max_size=3, unique_by=str),
)
def test_reads_what_scapy_wrote(flow, flags, seq, ack, payload, window, timestamp, extra):
    """Every field that Scapy writes is read back, IPv4 and IPv6, with any options and their
    order.
    """
    extra = [option for option in extra if option[0] != "EOL"]
    segment = craft(
        1.5,
        flow=flow,
        flags=flags,
        seq=seq,
        ack=ack,
        payload=payload,
        window=window,
        timestamp=timestamp,
        options=extra,
    )
    assert (segment.flow, segment.flags, segment.seq, segment.ack, segment.window) == (flow, flags, seq, ack, window)
    assert (segment.payload, segment.length, segment.timestamp, segment.at_s) == (payload, len(payload), timestamp, 1.5)
    given_options = dict(extra)
    assert segment.options.mss == given_options.get("MSS")
    assert segment.options.window_scale == given_options.get("WScale")
    assert segment.options.sack_permitted == ("SAckOK" in given_options)
    assert segment.options.sack == (((1, 2), (3, 2**32 - 1)) if "SAck" in given_options else ())
    assert segment.end_seq == (seq + len(payload) + ("S" in flags) + ("F" in flags)) % 2**32


@given(FLOW, st.binary(max_size=61), STAMP, NUMBER)
def test_checksums_are_scapys(flow, payload, timestamp, noise):
    """with_checksums() makes the same checksums as Scapy, over any that stood there."""
    good = craft(flow=flow, flags="PA", payload=payload, timestamp=timestamp).raw
    header = parse(good, 0).header
    spoilt = bytearray(good)
    spoilt[header + 16 : header + 18] = (noise & 0xFFFF).to_bytes(2, "big")
    if flow is FLOW4:
        spoilt[10:12] = (noise >> 16).to_bytes(2, "big")
    assert with_checksums(bytes(spoilt)) == good


@given(
    FLOW, st.binary(max_size=30), st.tuples(NUMBER, NUMBER), st.sampled_from([[], [("MSS", 1460)], [("SAck", (8, 10))]])
)
def test_a_stripped_timestamp_leaves_all_else(flow, payload, timestamp, extra):
    """without_timestamp() puts NOPs in the option's place; every other field, and the length, stay;
    the checksum is right.
    """
    segment = craft(flow=flow, flags="PA", seq=7, payload=payload, timestamp=timestamp, options=extra)
    stripped = without_timestamp(segment)
    again = parse(stripped.raw, 0)
    assert again == stripped
    assert stripped.timestamp is None
    assert (stripped.payload, stripped.seq, stripped.options, len(stripped.raw)) == (
        payload,
        7,
        segment.options,
        len(segment.raw),
    )
    assert with_checksums(stripped.raw) == stripped.raw


@given(st.binary(max_size=80))
def test_any_bytes_can_be_read(packet):
    """parse() answers with a segment or None for any bytes, and never raises; so do the properties
    of what it made.
    """
    segment = parse(packet, 0.0)
    if segment:
        assert len(segment.payload) == segment.length
        assert segment.options is not None


@given(FLOW, st.data())
def test_a_segment_cut_short_is_none(flow, data):
    """What is not the whole of a TCP segment is not taken for one."""
    packet = craft(flow=flow, flags="PA", payload=b"x" * 20, timestamp=(1, 2)).raw
    assert parse(packet[: data.draw(st.integers(0, len(packet) - 1))], 0) is None


@given(FLOW, st.randoms())
def test_a_segment_with_damaged_options_is_still_read(flow, rng: random.Random):
    """Options that make no sense end where the header ends."""
    packet = bytearray(craft(flow=flow, flags="A", payload=b"data", timestamp=(1, 2), options=[("MSS", 1)]).raw)
    header = parse(bytes(packet), 0).header
    for at in range(header + 20, len(packet) - 4):
        packet[at] = rng.randrange(256)
    segment = parse(bytes(packet), 0)
    assert segment.payload == b"data"
    assert segment.options is not None


def test_other_packets_are_none():
    """UDP, fragments and empty input are no segments."""
    segment = craft(flow=FLOW4, flags="A")
    udp, fragment = bytearray(segment.raw), bytearray(segment.raw)
    udp[9] = 17
    fragment[6] |= 0x20
    assert [parse(bytes(packet), 0) for packet in (udp, fragment, b"")] == [None, None, None]


def test_ipv6_extension_headers_are_passed_over():
    """Destination options before TCP do not hide it."""
    raw = craft(flow=FLOW6, flags="A", payload=b"abc").raw
    extended = (
        raw[:4]
        + (len(raw) - 40 + 8).to_bytes(2, "big")
        + b"\x3c"
        + raw[7:40]
        + b"\x06\x00\x01\x04\x00\x00\x00\x00"
        + raw[40:]
    )
    segment = parse(extended, 0)
    assert (segment.flow, segment.payload) == (FLOW6, b"abc")


def test_words():
    """A segment is one line: who to whom, flags, numbers, length; names for addresses and relative
    numbers where asked for.
    """
    segment = craft(flow=FLOW4, flags="FA", seq=1234, ack=99)
    assert segment.words() == "10.0.1.1:40000 > 10.2.1.1:80 FA seq 1234 ack 99 len 0"
    assert (
        segment.words({"10.0.1.1": "client", "10.2.1.1": "server"}, relative_to=(1233, 98))
        == "client:40000 > server:80 FA seq 1 ack 1 len 0"
    )
    assert (
        craft(flow=FLOW6, flags="S", timestamp=(5, 0)).words()
        == "[fd00:0:0:1::1]:40000 > [fd00:0:2:1::1]:80 S seq 0 len 0 ts 5 0"
    )


@pytest.mark.parametrize(
    ("condition", "met", "unmet"),
    [
        ({"source": "10.0.1.1", "destination": "10.2.1.1"}, {}, {"flow": FLOW4.reversed()}),
        ({"source_port": 40_000, "destination_port": 80}, {}, {"flow": FLOW4.reversed()}),
        ({"flow": FLOW4}, {}, {"flow": FLOW4.reversed()}),
        ({"flags": "AP"}, {"flags": "PA"}, {"flags": "FPA"}),
        ({"having": "F"}, {"flags": "FPA"}, {"flags": "A"}),
        ({"payload": True}, {"payload": b"x"}, {"payload": b""}),
        ({"payload": False}, {"payload": b""}, {"payload": b"x"}),
        ({"payload": b"GET"}, {"payload": b"a GET b"}, {"payload": b"POST"}),
        ({"seq": 5}, {"seq": 5}, {"seq": 6}),
        ({"seq": (2**32 - 2, 3)}, {"seq": 1}, {"seq": 4}),
        ({"timestamps": True}, {"timestamp": (1, 2)}, {"timestamp": None}),
        ({"timestamps": False}, {"timestamp": None}, {"timestamp": (1, 2)}),
    ],
)
def test_match(condition, met, unmet):
    """Each condition of match() lets through what meets it, and nothing else."""
    base = {"flow": FLOW4, "flags": "A"}
    assert match(**condition)(craft(**{**base, **met}))
    assert not match(**condition)(craft(**{**base, **unmet}))


def test_nth_match_counts_from_where_it_is_armed():
    """nth picks one of those that match; a fresh() match counts anew."""
    data, bare = craft(flow=FLOW4, flags="A", payload=b"x"), craft(flow=FLOW4, flags="A")
    second = match(payload=True, nth=2)
    assert [second(segment) for segment in (data, bare, data, data)] == [False, False, True, False]
    assert [second.fresh()(segment) for segment in (data,)] == [False]
    both = match(payload=True, nth=2) & match(flags="A")
    assert [both(segment) for segment in (data, bare, data)] == [False, False, True]


def test_a_match_says_what_it_is():
    """The transcript names the condition in words."""
    assert (
        str(match(source="10.0.1.1", flags="PA", payload=True, nth=3))
        == "from 10.0.1.1 flags PA with payload, number 3"
    )
    assert str(match() & match(having="F")) == "any segment and with F"
