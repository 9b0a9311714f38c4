"""Connections by the thousand: the shuttle's trips are real connections, and the tap sees each
segment once.
"""

import pytest
from wired import wired

from twlab.errors import ScenarioError
from twlab.linux import counters
from twlab.loop import Loop
from twlab.segment import match, renumbered, with_checksums
from twlab.traffic.connection_pairs import ConnectionPairs

LONG, SHORT, BULK = b"l" * 500, b"s" * 50, b"b" * 50_000


def shuttled(lab, family=4):
    network = lab.network
    return ConnectionPairs(network["client"], network["server"], network["wire"], 80, lab.loop, lab.transcript, family)


def a_trip(family):
    with wired() as lab:
        shuttle = shuttled(lab, family)
        trip = shuttle.connect(40_000)
        for data in (SHORT, BULK, LONG):
            trip.send(data)
        read = trip.receive(len(SHORT + BULK + LONG))
        seen = shuttle.copied(40_000)
        while seen.payload != LONG:  # before it, what bulk leaves over may be of that size
            seen = shuttle.copied(40_000)
        try:
            further = shuttle.copied(40_000).length
        except ScenarioError as error:
            further = error.slug
        trip.close()
        again = shuttle.try_connect(40_000) is not None
        told = [entry.text for entry in lab.transcript.entries]
        shuttle.close()
        return {
            "whole": read == SHORT + BULK + LONG,
            "error": trip.error,
            "ends": seen.flow[1::2],
            "further": further,
            "again": again,
            "told": told,
        }


@pytest.mark.host
@pytest.mark.parametrize("family", [4, 6])
def test_a_trip_carries_bytes_and_leaves_time_wait(family, in_sandbox):
    """What the client sends the server reads; the wire has a copy of each short segment, once;
    Linux lets a client with timestamps reopen.
    """
    outcome = in_sandbox(a_trip, family)
    assert outcome["whole"] and not outcome["error"]
    assert outcome["ends"] == [40_000, 80]
    assert outcome["further"] == "nothing-seen"
    assert outcome["again"]  # timestamps are on: the client, which names its port, may reopen at once
    assert outcome["told"][:2] == ["connects to server from port 40000", "sends 50 bytes"]


def sent_again():
    with wired() as lab:
        shuttle = shuttled(lab)
        trip = shuttle.connect(40_000)
        lost = lab.wire.drop(match(source_port=80))
        trip.send(LONG)
        again = lab.loop.wait_until(lambda: counters.read(lab.network["client"])["TcpRetransSegs"] > 0)
        lost.stop()
        first = shuttle.copied(40_000)
        trip.send(b"n" * 500)
        second = shuttle.copied(40_000)
        shuttle.close()
        return {"again": again, "first": first.payload == LONG, "apart": second.seq - first.seq}


@pytest.mark.host
def test_a_segment_that_is_sent_again_counts_once(in_sandbox):
    """Its ACK is late, and the wire sees it twice: the next copy is that of the next segment."""
    assert in_sandbox(sent_again) == {"again": True, "first": True, "apart": 500}


def refusals():
    with wired() as lab:
        lab.network["client"].write_sysctl("net.ipv4.tcp_timestamps", 0)
        shuttle = shuttled(lab)
        shuttle.connect(40_000).close()
        waiting = shuttle.try_connect(40_000)
        try:
            shuttle.connect(40_000)
        except ScenarioError as error:
            refused = [error.slug, "EADDRNOTAVAIL" in error.message]
        shuttle.connect(40_001).abort()
        shuttle.connect(40_001).abort()
        shuttle.close()
        try:
            shuttle.try_connect(40_002)
        except ScenarioError as error:
            closed = error.slug
        return {"waiting": waiting is None, "refused": refused, "closed": closed}


@pytest.mark.host
def test_a_four_tuple_in_time_wait_is_refused_and_an_aborted_one_is_not(in_sandbox):
    """Without timestamps TIME_WAIT refuses its four-tuple, an abort leaves none; all else that
    fails is an error of the scenario's.
    """
    assert in_sandbox(refusals) == {"waiting": True, "refused": ["connect-failed", True], "closed": "connect-failed"}


def renumbering():
    with wired() as lab:
        shuttle = shuttled(lab)
        trip = shuttle.connect(40_000)
        trip.send(LONG)
        segment = shuttle.copied(40_000)
        trip.receive(len(LONG))
        late = renumbered(segment, seq=segment.end_seq + 100, ack=segment.ack + 2**32)
        lab.wire.inject(late)  # ahead of what the server has, until the client's next write ends within it
        trip.send(b"n" * 200)
        trip.send(b"n" * 800)
        read = trip.receive(1000)
        assert with_checksums(late.raw) == late.raw
        return {
            "foreign": read.count(b"l"),
            "length": len(read),
            "payload": late.payload == LONG,
            "stamp": late.timestamp == segment.timestamp,
        }


@pytest.mark.host
def test_a_renumbered_copy_is_taken_where_its_number_says(in_sandbox):
    """Injected 100 bytes ahead, the copy's last 400 bytes are read after the 200 new bytes that end
    within it.
    """
    assert in_sandbox(renumbering) == {"foreign": 400, "length": 1000, "payload": True, "stamp": True}


def test_the_time_up_to_which_the_loop_has_served():
    """A turn tells it, so that a sleeper need not ask the clock again."""
    loop = Loop()
    called = []
    loop.call_at(0.01, lambda: called.append(1))
    assert loop.turn(0.02) >= 0.01 and called
    loop.sleep_until(0.03)
    assert loop.now_s >= 0.03
    loop.close()
