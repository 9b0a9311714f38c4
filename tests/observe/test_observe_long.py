"""Connections that moved gigabytes: their sequence numbers and identifications go round and round."""

from __future__ import annotations

from pathlib import Path

import pytest
from exchanges import Sent, again, pcap, pcapng, sent

from twlab.observe.reading import observe

SEGMENT = 1448


def transfer(size: int, segment: int, isn: int = 1000, peer: int = 5000) -> list[Sent]:
    """Make a connection whose client sends `size` bytes, a segment every 0.5 ms, and closes first."""
    steps = max(1, segment // SEGMENT)  # identifications of an offloaded segment
    packets = [
        sent(True, "S", isn, 0, 1, 0, stamp=2000),
        sent(False, "SA", peer, isn + 1, 0, 0.001, stamp=2000),
        sent(True, "A", isn + 1, peer + 1, 2, 0.002, stamp=2001),
    ]
    end, identity = isn + 1, 2
    for number in range(1, size // segment + 1):
        t = 0.002 + number * 0.0005
        identity += steps
        packets.append(sent(True, "PA", end, peer + 1, identity, t, segment, stamp=2000 + int(t * 1000)))
        end += segment
        if number % 16 == 0:
            packets.append(sent(False, "A", peer + 1, end, number, t + 0.0001, stamp=2000 + int(t * 1000)))
    t, stamp = t + 0.001, 2001 + int(t * 1000)
    packets.append(sent(True, "FA", end, peer + 1, identity + steps, t, stamp=stamp))
    packets.append(sent(False, "FA", peer + 1, end + 1, 9000, t + 0.01, stamp=stamp + 10))
    packets.append(sent(True, "A", end + 1, peer + 2, identity + steps + 1, t + 0.02, stamp=stamp + 20))
    return packets


def stamp_of(packet: Sent) -> int:
    return int.from_bytes(packet.head[44:48], "big")


def ending(packets: list[Sent]) -> list[Sent]:
    """Add what comes 2 to 4 s after the close.

    The server's FIN sent again and the answer to it, and a copy of the client's second last segment.
    """
    last, fin = packets[-1], packets[-2]
    segments = [packet for packet in packets if packet.length > 1000]
    t = last.t
    stamp = stamp_of(fin)
    ack = int.from_bytes(last.head[24:28], "big")
    return [
        *packets,
        sent(False, "FA", 5001, ack, 9001, t + 2, stamp=stamp + 2000),
        sent(True, "A", ack, 5002, int.from_bytes(last.head[4:6], "big") + 1, t + 2.001, stamp=stamp + 2001),
        again(segments[-2], t + 4),
    ]


@pytest.mark.parametrize("batch", [1 << 21, 20_000], ids=["at once", "in batches"])
@pytest.mark.parametrize("size", [1_900_000_000, 2_200_000_000, 4_290_000_000, 4_400_000_000])
def test_a_connection_of_gigabytes_closes(size: int, batch: int, tmp_path: Path) -> None:
    """Past 2 GiB and past 4 GiB its close and the verdicts are those of a smaller one."""
    packets = ending(transfer(size, 60_000))
    found = observe([pcap(tmp_path / "x.pcap", packets, whole=False)], batch=batch, remember_s=4)
    assert (found.connections, found.open, found.closes["client"]) == (1, 0, 1)
    count = len(packets)
    named = [(late.kind, late.frame.number - count, late.against[0].number - count) for late in found.late]
    assert [(kind, frame) for kind, frame, _ in named] == [("retransmission", -2), ("answer", -1), ("copy", 0)]
    assert named[0][2] == -4 and named[1][2] == -2
    assert [late.late_s for late in found.late] == [pytest.approx(late_s) for late_s in (2, 2.001, 4)]


@pytest.mark.parametrize("isn", [1000, (1 << 32) - 5000])
def test_a_fin_below_the_first_number_is_the_one_of_before(isn: int, tmp_path: Path) -> None:
    """A new connection begins 65,537 numbers behind the old one's last, as tcp_tw_reuse has it."""
    old = transfer(10 * SEGMENT, SEGMENT, isn)
    new = transfer(10 * SEGMENT, SEGMENT, isn + 10 * SEGMENT + 2 + 65_537, 9_000_000)
    later = [again(packet, packet.t + 3) for packet in new]
    packets = [*old, *later[:5], again(old[-3], 3.0042), *later[5:]]
    found = observe([pcap(tmp_path / "x.pcap", packets)])
    assert (found.connections, found.open, found.closes["client"]) == (2, 0, 2)
    assert [(late.kind, late.frame.number, late.met) for late in found.late] == [("copy", len(old) + 6, True)]


@pytest.mark.parametrize("count", [20_000, 60_000, 70_000, 140_000])
def test_an_identification_of_a_whole_cycle_ago_says_nothing(count: int, tmp_path: Path) -> None:
    """A host uses each of them again after 65,536 packets."""
    packets = transfer(count * SEGMENT, SEGMENT)
    identity = int.from_bytes(packets[-3].head[4:6], "big")
    end, stamp, t = count * SEGMENT + 1001, stamp_of(packets[-1]), packets[-1].t
    late = [
        sent(True, "PA", end - SEGMENT, 5001, identity + 5, t + 2, SEGMENT, stamp=stamp + 2000),
        sent(True, "PA", end - SEGMENT, 5001, identity - 9, t + 3, SEGMENT, stamp=stamp + 3000),
    ]
    found = observe([pcap(tmp_path / "x.pcap", [*packets, *late], whole=False)])
    assert [late.kind for late in found.late] == ["retransmission", "foreign"]
    assert len(packets) - 30 < found.late[1].against[0].number < len(packets)


@pytest.mark.parametrize(("ahead", "named"), [(0, []), (2 * SEGMENT, []), (1_800_000, ["undecided"])])
def test_two_identifications_that_are_missing_do_not_stand_for_a_megabyte(
    ahead: int, named: list[str], tmp_path: Path
) -> None:
    """A segment that one of two interfaces has missed is the host's if its identification follows
    the others, unless more was sent between than those that are missing can have brought.
    """
    *packets, last = transfer(100 * SEGMENT, SEGMENT)[:-3]
    seq, identity = (int.from_bytes(last.head[at:to], "big") for at, to in ((24, 28), (4, 6)))
    seen = [(again(each, each.t + place * 2e-5, 64 - place), place) for each in [*packets, last] for place in (0, 1)]
    stray = sent(True, "PA", seq + SEGMENT + ahead, 5001, identity + 3, last.t + 1e-4, SEGMENT, ttl=63, stamp=2100)
    found = observe([pcapng(tmp_path / "x.pcapng", [*seen, (stray, 1)], names=("outside", "inside"))])
    assert [late.kind for late in found.late] == named
