"""Several captures read as one: rotated files, two taps, a file for each direction, pipes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from exchanges import Sent, again, exchange, pcap, pcapng

from twlab.observe import publish
from twlab.observe.findings import Findings
from twlab.observe.reading import observe


def busy(copies: bool = True) -> list[Sent]:
    """Make 30 connections, 0.3 s apart, on 10 four-tuples; of each third a late copy after 2.5 s."""
    packets: list[Sent] = []
    for number in range(30):
        how = {"begin": number * 0.3, "port": 40_000 + number % 10, "isn": 1000 + number * 1_000_000}
        made = exchange(identity=7000 + 20 * number, **how)  # type: ignore[arg-type]
        packets += made
        if copies and number % 3 == 0:
            packets.append(again(made[3], made[-1].t + 2.5))
    return sorted(packets, key=lambda packet: packet.t)


def shifted(packets: list[Sent], by_s: float) -> list[Sent]:
    return [again(packet, packet.t + by_s) for packet in packets]


def facts(found: Findings) -> dict[str, object]:
    return {**publish.aggregate(found), "captures": 0}


def names(found: Findings) -> list[tuple[str, float | None, str]]:
    return [(late.kind, late.late_s, late.what) for late in found.late]


def test_two_taps_are_two_interfaces(tmp_path: Path) -> None:
    """A packet that both ends captured is one packet, in two files as in the merged one."""
    packets = busy()
    there = shifted(packets, 0.005)
    both = sorted([(each, 0) for each in packets] + [(each, 1) for each in there], key=lambda pair: pair[0].t)
    merged = observe([pcapng(tmp_path / "m.pcapng", both)])
    files = [pcap(tmp_path / "client.pcap", packets), pcap(tmp_path / "server.pcap", there)]
    found = observe(files)
    assert facts(found) == facts(merged) and names(found) == names(merged)
    assert found.duplicates == len(packets) and found.connections == 30 and found.back == 0
    assert [late.kind for late in found.late] == ["copy"] * 10
    assert {late.frame.file for late in found.late} == {files[0]}
    one = observe(files[:1])
    assert [late.frame.number for late in found.late] == [late.frame.number for late in one.late]
    assert names(one) == names(found)


@pytest.mark.parametrize("form", ["pcap", "named pcapng"])
def test_a_file_for_each_direction(form: str, tmp_path: Path) -> None:
    """Two taps of one fibre, one a direction: what both hold is what one capture would."""
    packets = busy()
    ways = [[each for each in packets if each.head[13] == number] for number in (1, 2)]
    files = []
    for number, way in enumerate(ways):
        if form == "pcap":
            files.append(pcap(tmp_path / f"{number}.pcap", way))
        else:
            files.append(pcapng(tmp_path / f"{number}.pcapng", [(each, 0) for each in way], names=("eth0",)))
    found, one = observe(files), observe([pcap(tmp_path / "one.pcap", packets)])
    assert names(found) == names(one) and facts(found) == facts(one)
    assert len(found.interfaces) == 2 and found.one_way == 0


def test_rotated_files_of_two_taps(tmp_path: Path) -> None:
    """Each tap's files have its interface; the order of the names does not matter."""
    packets = busy()
    there = shifted(packets, 0.005)
    whole = observe([pcap(tmp_path / "a.pcap", packets), pcap(tmp_path / "b.pcap", there)])
    files = []
    for name, tap in (("client", packets), ("server", there)):
        for number, (begin, end) in enumerate(((0, 90), (90, 91), (91, 170), (170, len(tap)))):
            files.append(pcap(tmp_path / f"{name}.pcap{number}", tap[begin:end]))
    for order in (files, files[::-1]):
        found = observe(order)
        assert facts(found) == facts(whole) and names(found) == names(whole)
        assert len(found.interfaces) == 2 and found.frames == 2 * len(packets)


def test_a_packet_that_stands_in_the_next_file(tmp_path: Path) -> None:
    """Rotated files that overlap by 30 us are not two taps: a copy in the second one is found."""
    packets = busy()
    cut = next(at for at in range(100, 300) if packets[at + 1].t - packets[at].t > 0.009)
    first, second = packets[: cut + 1], packets[cut + 1 :]
    second.insert(0, again(first.pop(-2), first[-1].t - 30e-6))
    found = observe([pcap(tmp_path / "0.pcap", first), pcap(tmp_path / "1.pcap", second)])
    assert len(found.interfaces) == 1 and [late.kind for late in found.late] == ["copy"] * 10
    assert facts(found)["closes"] == facts(observe([pcap(tmp_path / "x.pcap", packets)]))["closes"]


@pytest.mark.parametrize("batch", [1 << 21, 100], ids=["at once", "in batches"])
@pytest.mark.parametrize("swapped", [(6, 7), (0, 1), (5, 6)], ids=["last ACK", "SYN/ACK", "FINs"])
def test_neighbours_that_stand_swapped(swapped: tuple[int, int], batch: int, tmp_path: Path) -> None:
    """Queues of one card write within 30 us in any order. The close is seen, frames keep numbers."""
    packets: list[Sent] = []
    for number in range(50):
        made = exchange(begin=number * 0.2, port=40_000 + number, identity=7000 + 20 * number)
        packets += [*made, again(made[3], made[3].t + 5.01)]
    one, other = swapped
    for number in range(0, 50, 5):
        at = number * 9
        packets[at + other] = again(packets[at + other], packets[at + one].t + 30e-6)
    right = sorted(packets, key=lambda packet: packet.t)
    wrong = list(right)
    for number in range(0, 50, 5):
        at = wrong.index(packets[number * 9 + one])
        assert wrong[at + 1] == packets[number * 9 + other]
        wrong[at : at + 2] = wrong[at : at + 2][::-1]
    found = observe([pcap(tmp_path / "wrong.pcap", wrong)], batch=batch)
    whole = observe([pcap(tmp_path / "right.pcap", right)], batch=batch)
    assert facts(found) == facts(whole) and found.closed == 50 and len(found.late) == 50
    for late, other_late in zip(found.late, whole.late, strict=True):
        assert wrong[late.frame.number - 1] == right[other_late.frame.number - 1]
        assert (late.kind, late.late_s) == (other_late.kind, other_late.late_s)


def test_pipes_are_read_once(tmp_path: Path) -> None:
    """As a shell has them: observe <(zcat a) <(zcat b). They are merged by time, too."""
    packets = busy()
    files = [pcap(tmp_path / "a.pcap", packets[:120]), pcap(tmp_path / "b.pcap", packets[120:])]
    command = f"{sys.executable} -m twlab observe <(cat {files[1]}) <(cat {files[0]})"
    done = shell(f"{command} --csv {tmp_path / 'x.csv'} --out {tmp_path / 'x.json'}")
    assert done.returncode == 0, done.stderr
    assert f"{len(packets)} frames" in done.stdout
    assert (tmp_path / "x.csv").read_text().count(",copy,") == 10
    assert json.loads((tmp_path / "x.json").read_text())["observations"][0]["ladders"] == []
    done = shell(f"{command} --export {tmp_path / 'flows'}")
    assert done.returncode == 2 and "[bad-observation]" in done.stderr and not (tmp_path / "flows").exists()


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True, cwd=ROOT, check=False)
