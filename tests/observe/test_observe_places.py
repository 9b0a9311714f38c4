"""Further sightings and further deliveries of a packet, told apart by interface, TTL and time."""

from __future__ import annotations

from pathlib import Path

import pytest
from exchanges import again, exchange, pcap

from twlab.observe.reading import observe


@pytest.mark.parametrize("stamps", [True, False], ids=["timestamps", "without"])
@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_a_late_copy_by_another_path_is_a_copy(six: bool, stamps: bool, tmp_path: Path) -> None:
    """A segment that was late mostly came by a loop or another path, and so has another TTL."""
    packets = exchange(six=six, stamps=stamps)
    for ttl in (61, 64, 66):
        found = observe([pcap(tmp_path / "x.pcap", [*packets, again(packets[3], 3.5, ttl)])])
        (late,) = found.late
        wanted = "undecided" if six and not stamps else "copy"
        assert (late.kind, late.frame.number, late.against[0].number) == (wanted, 9, 4)
        assert (late.late_s, late.age_s) == (pytest.approx(3.43), pytest.approx(3.47))
        assert found.duplicates == 0


def test_a_late_copy_by_another_path_meets_the_next_connection(tmp_path: Path) -> None:
    """The verdict is that of a copy with the first one's TTL."""
    first = exchange()
    packets = [*first, *exchange(begin=2, isn=900, identity=7010)[:3]]
    found = [observe([pcap(tmp_path / "x.pcap", [*packets, again(first[3], 3.5, ttl)])]) for ttl in (64, 61)]
    assert found[0].late == found[1].late and found[0].late[0].met
    assert found[0].table == found[1].table and found[0].table[1].exposed == 1


def test_two_places_of_one_interface_are_one_sighting(tmp_path: Path) -> None:
    """A SPAN port sees a packet before and behind a router: another TTL, 20 us later.

    That holds for a late copy that passes both places, too, by whichever path it came.
    """
    packets = exchange()
    packets += [again(packets[3], 3.5, 61), again(packets[3], 7.5, 64)]
    both = [each for one in packets for each in (one, again(one, one.t + 20e-6, one.head[8] - 1))]
    found = observe([pcap(tmp_path / "x.pcap", both)])
    assert found.duplicates == len(packets) and found.connections == 1
    assert [(late.kind, late.frame.number) for late in found.late] == [("copy", 17), ("copy", 19)]
