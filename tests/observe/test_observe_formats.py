"""Formats that twlab observe reads: containers, compression, link types, tunnels, fragments, cut
packets. One exchange in each.
"""

from __future__ import annotations

import gzip
import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import pack

import lz4.frame
import pytest
import zstandard
from conftest import ROOT
from planted import Plan, pcap, pcapng
from scapy.contrib.mpls import MPLS
from scapy.layers.inet import IP, TCP, UDP, fragment
from scapy.layers.inet6 import IPv6, IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, fragment6
from scapy.layers.l2 import GRE, Dot1AD, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from twlab.observe import export
from twlab.observe.findings import Findings
from twlab.observe.reading import observe
from twlab.observe.text import notes

CLIENT, SERVER = ("10.1.0.1", "fd00::1"), ("10.2.0.1", "fd00::2")
STEPS = [  # sender is the client, flags, payload, seq, ack, IP ID, seconds
    (True, "S", 0, 1000, 0, 7000, 0.0),
    (False, "SA", 0, 5000, 1001, 0, 0.01),
    (True, "A", 0, 1001, 5001, 7001, 0.02),
    (True, "PA", 600, 1001, 5001, 7002, 0.03),
    (False, "A", 0, 5001, 1601, 300, 0.04),
    (False, "FA", 0, 5001, 1601, 301, 0.05),
    (True, "FA", 0, 1601, 5002, 7003, 0.06),
    (False, "A", 0, 5002, 1602, 302, 0.07),
    (True, "PA", 600, 1001, 5001, 7002, 3.5),  # the network delivers the data again
]
Sixth = Callable[[Packet], Packet]


def exchange(six: bool = False) -> Iterator[tuple[float, Packet]]:
    """IP packets and their times."""
    for number, (forward, flags, size, seq, ack, identity, t) in enumerate(STEPS):
        ends = [CLIENT[six], SERVER[six]] if forward else [SERVER[six], CLIENT[six]]
        ports = {"sport": 40_000, "dport": 80} if forward else {"sport": 80, "dport": 40_000}
        stamp = 2_000 + 10 * (3 if number == len(STEPS) - 1 else number)
        options = [("NOP", None), ("NOP", None), ("Timestamp", (stamp, 99))]
        tcp = TCP(**ports, flags=flags, seq=seq, ack=ack, window=500, options=options) / Raw(bytes([forward]) * size)
        ip = IPv6(src=ends[0], dst=ends[1], hlim=64) if six else IP(src=ends[0], dst=ends[1], id=identity, ttl=64)
        yield t, ip / tcp


def write(path: Path, packets: list[tuple[float, bytes]], link: int = 1, snaplen: int = 0) -> None:
    data = pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, link)
    for t, frame in packets:
        kept = frame[:snaplen] if snaplen else frame
        data += pack("<IIII", 1_700_000_000 + int(t), int(t % 1 * 1e6), len(kept), len(frame)) + kept
    path.write_bytes(data)


def ether(packet: Packet) -> Packet:
    return Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / packet


def outer() -> Packet:
    return ether(IP(src="192.0.2.1", dst="192.0.2.2", id=1))


def outer6() -> Packet:
    return ether(IPv6(src="2001:db8::1", dst="2001:db8::2"))


def geneve(packet: Packet) -> Packet:
    return UDP(sport=5, dport=6081) / Raw(b"\x01\0\x65\x58\0\0\x09\0" + bytes(4)) / ether(packet)


def cooked(packet: Packet) -> bytes:
    return pack("!HHH8sH", 0, 1, 6, b"\2\0\0\0\0\1", 0x86DD if packet.version == 6 else 0x0800) + bytes(packet)


def cooked2(packet: Packet) -> bytes:
    return pack("!HHIHBB8s", 0x86DD if packet.version == 6 else 0x0800, 0, 2, 1, 0, 6, b"\2\0\0\0\0\1") + bytes(packet)


WRAPPED: dict[str, tuple[int, Callable[[Packet], object]]] = {
    "Ethernet": (1, ether),
    "padded Ethernet": (1, lambda packet: bytes(ether(packet)).ljust(120, b"\0")),
    "VLAN": (1, lambda packet: Ether() / Dot1Q(vlan=7) / packet),
    "QinQ": (1, lambda packet: Ether() / Dot1AD(vlan=9) / Dot1Q(vlan=7) / packet),
    "Linux cooked": (113, cooked),
    "Linux cooked 2": (276, cooked2),
    "raw": (101, lambda packet: packet),
    "BSD loopback": (0, lambda packet: pack("<I", 30 if packet.version == 6 else 2) + bytes(packet)),
    "GRE": (1, lambda packet: outer() / GRE() / packet),
    "GRE with a key": (1, lambda packet: outer() / GRE(key_present=1, key=5) / packet),
    "GRE bridging": (1, lambda packet: outer() / GRE(proto=0x6558) / ether(packet)),
    "VXLAN": (1, lambda packet: outer() / UDP(sport=5, dport=4789) / VXLAN(vni=77) / ether(packet)),
    "MPLS": (1, lambda packet: Ether(type=0x8847) / MPLS(label=3, s=0) / MPLS(label=4, s=1) / packet),
    "PPPoE": (
        1,
        lambda packet: (
            bytes(Ether(type=0x8864))
            + pack("!BBHHH", 0x11, 0, 1, len(packet) + 2, 0x57 if packet.version == 6 else 0x21)
            + bytes(packet)
        ),
    ),
    "Geneve": (1, lambda packet: outer() / geneve(packet)),
    "IP in IP": (1, lambda packet: outer() / packet),
    "IP in IPv6": (1, lambda packet: outer6() / packet),
    "GRE in IPv6": (1, lambda packet: outer6() / GRE(key_present=1, key=5) / packet),
    "VXLAN in IPv6": (1, lambda packet: outer6() / UDP(sport=5, dport=4789) / VXLAN(vni=77) / ether(packet)),
    "VXLAN in IPv6 with an option": (
        1,
        lambda packet: outer6() / IPv6ExtHdrDestOpt() / UDP(sport=5, dport=8472) / VXLAN(vni=77) / ether(packet),
    ),
    "Geneve in IPv6": (1, lambda packet: outer6() / geneve(packet)),
}


def check(found: Findings, frame: int = len(STEPS)) -> None:
    assert [(late.kind, late.frame.number) for late in found.late] == [("copy", frame)]
    late = found.late[0]
    assert late.late_s == pytest.approx(3.43, abs=1e-3) and late.flow[1] == 40_000 and late.flow[3] == 80
    assert (found.connections, found.opened, found.closes["server"]) == (1, 1, 1)
    assert not found.faults


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("how", WRAPPED)
def test_link_types_and_tunnels(how: str, six: bool, tmp_path: Path) -> None:
    """The late copy is found in every wrapping of the packets."""
    link, wrap = WRAPPED[how]
    write(tmp_path / "x.pcap", [(t, bytes(wrap(packet))) for t, packet in exchange(six)], link)  # type: ignore[call-overload]
    found = observe([str(tmp_path / "x.pcap")])
    check(found)
    assert found.late[0].flow[0] == CLIENT[six]


def test_ipv6_extension_headers(tmp_path: Path) -> None:
    """Hop-by-hop and destination options, and an atomic fragment header."""
    packets = []
    for t, packet in exchange(six=True):
        inner = packet[TCP].copy()
        head = packet.copy()
        head.remove_payload()
        packets.append(
            (t, bytes(ether(head / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment() / inner)))
        )
    write(tmp_path / "x.pcap", packets)
    check(observe([str(tmp_path / "x.pcap")]))


ORDERS: dict[str, Callable[[list[Packet]], list[Packet]]] = {
    "in order": lambda parts: parts,
    "reversed": lambda parts: parts[::-1],
    "each twice": lambda parts: [part for part in parts for _ in range(2)],
    "one missing": lambda parts: parts[:1] + parts[2:],
}


@pytest.mark.parametrize("how", ORDERS)
@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_fragments(six: bool, how: str, tmp_path: Path) -> None:
    """A fragmented segment counts once, with the length of all of its fragments.

    In any order, and where a SPAN port has each twice. An export has all of them.
    """
    packets = []
    for t, packet in exchange(six):
        if six:
            head = packet.copy()
            head.remove_payload()
            parts = fragment6(head / IPv6ExtHdrFragment(id=int(t * 100)) / packet[TCP], 400)
        else:
            parts = fragment(packet, 280)
        for number, part in enumerate(ORDERS[how](parts) if len(parts) > 2 else parts):
            packets.append((t + number * 1e-5, bytes(ether(part))))
    write(tmp_path / "x.pcap", packets)
    assert len(packets) > len(STEPS)
    found = observe([str(tmp_path / "x.pcap")])
    heads = len(STEPS) + found.duplicates
    assert [late.kind for late in found.late] == ["copy"] and " len 600" in found.late[0].what
    assert found.counts["fragment"] == len(packets) - heads
    export.write(found, tmp_path, set())
    again = observe([str(tmp_path / "x.pcap-copy.pcapng")])
    assert again.frames == len(packets) and again.late[0].what == found.late[0].what


@pytest.mark.parametrize("snaplen", [66, 68, 96, 128])
def test_cut_packets(snaplen: int, tmp_path: Path) -> None:
    """The length comes from the IP header, so a capture without payload serves as well."""
    write(tmp_path / "x.pcap", [(t, bytes(ether(packet))) for t, packet in exchange()], snaplen=snaplen)
    check(observe([str(tmp_path / "x.pcap")]))


def test_packets_that_are_cut_in_their_headers_are_counted(tmp_path: Path) -> None:
    """Nothing is claimed from them."""
    write(tmp_path / "x.pcap", [(t, bytes(ether(packet))) for t, packet in exchange()], snaplen=45)
    found = observe([str(tmp_path / "x.pcap")])
    assert found.counts["cut"] == len(STEPS) and not found.late and not found.connections


def test_an_unknown_link_type_is_said(tmp_path: Path) -> None:
    """Frames of it are counted under its number."""
    write(tmp_path / "x.pcap", [(t, bytes(ether(packet))) for t, packet in exchange()], link=127)
    found = observe([str(tmp_path / "x.pcap")])
    assert found.links[127] == len(STEPS) and not found.connections


def blob(form: str, plan: Plan) -> bytes:
    file = io.BytesIO()
    if form == "pcapng":
        pcapng(plan, file.write)
    else:
        pcap(plan, file.write, nanoseconds="ns" in form, order=">" if "big" in form else "<")
    return file.getvalue()


FORMS = ["pcap us", "pcap ns", "pcap us big-endian", "pcap ns big-endian", "pcapng"]
COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "zst": lambda data: zstandard.compress(data[:9999]) + zstandard.compress(data[9999:]),
    "lz4": lambda data: lz4.frame.compress(data[:9999]) + lz4.frame.compress(data[9999:]),
    "gz of two members": lambda data: gzip.compress(data[:5000]) + gzip.compress(data[5000:]),
}


@pytest.mark.parametrize("form", FORMS)
def test_containers(form: str, tmp_path: Path) -> None:
    """All give the same findings, to the resolution of their clocks."""
    plan = Plan(tuples=50, windows=2, copies=0.02)
    (tmp_path / "x").write_bytes(blob(form, plan))
    (tmp_path / "y").write_bytes(blob("pcap ns", plan))
    found, reference = observe([str(tmp_path / "x")]), observe([str(tmp_path / "y")])
    assert [(late.kind, late.frame.number) for late in found.late] == [
        (late.kind, late.frame.number) for late in reference.late
    ]
    assert len(found.late) > 5
    for one, other in zip(found.late, reference.late, strict=True):
        assert one.late_s == pytest.approx(other.late_s, abs=2e-6)


@pytest.mark.parametrize("how", COMPRESSED)
def test_compression(how: str, tmp_path: Path) -> None:
    """Compressed files, of several frames too."""
    data = blob("pcap ns", Plan(tuples=50, windows=2, copies=0.02))
    (tmp_path / "x").write_bytes(COMPRESSED[how](data))
    (tmp_path / "y").write_bytes(data)
    found, reference = observe([str(tmp_path / "x")]), observe([str(tmp_path / "y")])
    assert found.frames == reference.frames and len(found.late) == len(reference.late) > 5
    assert not found.faults


@pytest.mark.parametrize("how", ["plain", "gz"])
def test_standard_input(how: str, tmp_path: Path) -> None:
    """A pipe, compressed or not, as `tcpdump -w - | twlab observe -` has it."""
    write(tmp_path / "x.pcap", [(t, bytes(ether(packet))) for t, packet in exchange()])
    data = (tmp_path / "x.pcap").read_bytes()
    command = [sys.executable, "-m", "twlab", "observe", "-", "--csv", str(tmp_path / "x.csv")]
    data = gzip.compress(data) if how == "gz" else data
    done = subprocess.run(command, input=data, capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr.decode()
    rows = (tmp_path / "x.csv").read_text().splitlines()
    assert len(rows) == 2 and ",copy,10.1.0.1,40000," in rows[1]


def test_two_virtual_networks_with_the_same_addresses_are_apart(tmp_path: Path) -> None:
    """The same four-tuple in two VLANs is two connections."""
    packets = [(t, bytes(Ether() / Dot1Q(vlan=vlan) / packet)) for t, packet in exchange() for vlan in (5, 6)]
    write(tmp_path / "x.pcap", packets)
    found = observe([str(tmp_path / "x.pcap")])
    assert found.connections == 2 and found.duplicates == 0
    assert [late.kind for late in found.late] == ["copy", "copy"]


@pytest.mark.parametrize("how", ["router", "by direction", "apart"])
def test_a_connection_that_virtual_networks_split_is_said(how: str, tmp_path: Path) -> None:
    """A SPAN port of a router has it in two VLANs; or each direction has its own.

    Networks that use the same addresses for other connections are no such case.
    """
    packets = []
    for t, packet in exchange():
        other = packet.copy()
        if how == "router":
            other.ttl -= 1
        else:
            other[TCP].seq, other[TCP].ack = packet[TCP].seq + 70_000, packet[TCP].ack + 90_000
        vlan = 5 if how != "by direction" or packet[TCP].dport == 80 else 6
        packets.append((t, bytes(Ether() / Dot1Q(vlan=vlan) / packet)))
        if how != "by direction":
            packets.append((t + 2e-5, bytes(Ether() / Dot1Q(vlan=6) / other)))
    write(tmp_path / "x.pcap", packets)
    for batch in (1 << 20, 5):
        found = observe([str(tmp_path / "x.pcap")], batch=batch)
        assert (found.split, found.connections) == (int(how != "apart"), 2)
        assert any(line.startswith("apart ") for line in notes(found)) == (how != "apart")
