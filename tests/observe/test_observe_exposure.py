"""Which late segments the next connection would have taken: its window, its ACKs, its timestamps."""

from __future__ import annotations

from pathlib import Path

import pytest
from exchanges import Sent, again, exchange, pcap, pcapng, sent

from twlab.observe.findings import Late
from twlab.observe.reading import observe


def met(path: Path, seq: int) -> Late:
    """Observe a late segment of 600 bytes from `seq` on that meets a connection of other numbers.

    The receiver has acknowledged up to 901 and offers 1,000 bytes, so up to 1901. Numbers up to
    1801 are on their way.
    """
    old = exchange(isn=seq - 1, stamps=False)
    packets: list[Sent] = [
        *old,
        *exchange(begin=2, isn=900, identity=7010, stamps=False)[:3],
        sent(False, "A", 5001, 901, 360, 2.025, window=1000),
        sent(True, "PA", 901, 5001, 7013, 2.03, 900),
        again(old[3], 2.04),
    ]
    (late,) = observe([pcap(path, packets)]).late
    assert late.kind == "copy" and late.met
    return late


@pytest.mark.parametrize("seq", [1900, 1801, 1202])
def test_a_segment_in_the_window_harms(seq: int, tmp_path: Path) -> None:
    """From behind what was sent to the last number that the receiver offers."""
    assert met(tmp_path / "x.pcap", seq).harmed


@pytest.mark.parametrize("seq", [1901, 2100, 1201, 600])
def test_a_segment_outside_the_window_does_no_harm(seq: int, tmp_path: Path) -> None:
    """Beyond the window that was offered, or all of it was sent already."""
    late = met(tmp_path / "x.pcap", seq)
    assert not late.harmed and late.why == "outside the window"


@pytest.mark.parametrize("snaplen", [128, 0])
def test_the_byte_order_of_pcapng_changes_nothing(snaplen: int, tmp_path: Path) -> None:
    """Bytes are compared as far as they were kept, in either order and in a file of both.

    Of 128 bytes none is in the place of a byte that the open connection sent.
    """
    how = {"snaplen": snaplen, "names": ("eth0",)}
    old = exchange(stamps=False, identity=0)
    packets = [
        *old,
        *exchange(begin=2, isn=900, identity=0, stamps=False)[:3],
        sent(True, "PA", 901, 5001, 0, 2.05, 600),
        sent(False, "A", 5001, 1501, 350, 2.06),
        again(old[3], 3.5),
    ]
    packets = [Sent(each.t, each.head[:4] + bytes(2) + each.head[6:], each.length) for each in packets]
    files = {}
    for name, order in (("little", "<"), ("big", ">")):
        files[name] = tmp_path / name
        pcapng(files[name], [(each, 0) for each in packets], order=order, **how)  # type: ignore[arg-type]
    for name, order, other in (("little, big", "<", ">"), ("big, little", ">", "<")):
        pcapng(tmp_path / "head", [(each, 0) for each in packets[:-2]], order=order, **how)  # type: ignore[arg-type]
        pcapng(tmp_path / "tail", [(each, 0) for each in packets[-2:]], order=other, **how)  # type: ignore[arg-type]
        files[name] = tmp_path / name
        files[name].write_bytes((tmp_path / "head").read_bytes() + (tmp_path / "tail").read_bytes())
    for name, path in files.items():
        (late,) = observe([str(path)]).late
        assert (late.kind, late.met, late.frame.number) == ("undecided", True, len(packets)), name
        assert late.contents == ("" if snaplen else "same"), name


@pytest.mark.parametrize("flags", ["FA", "RA"])
def test_the_table_counts_closes_by_fin_alone(flags: str, tmp_path: Path) -> None:
    """A RST leaves no TIME_WAIT: a copy that comes after it is named, and exposes nothing."""
    packets = exchange()
    late = again(packets[3], 3.5)
    if flags == "RA":
        packets = [*packets[:5], sent(False, "RA", 5001, 1601, 301, 0.05)]
    found = observe([pcap(tmp_path / "x.pcap", [*packets, late])])
    assert [each.kind for each in found.late] == ["copy"] and len(found.kinds["copy"].lateness) == 1
    by_fin = int(flags == "FA")
    assert (found.closed, found.closes["reset"]) == (by_fin, 1 - by_fin)
    assert (found.table[1].exposed, found.table[1].watched) == (by_fin, by_fin)
