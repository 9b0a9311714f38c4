"""What twlab observe --anonymize hands on: no address, no name of a file, no payload."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import pytest
from conftest import ROOT
from exchanges import again, exchange, pcap, pcapng, sent

from twlab.observe.anonymize import Anonymizer
from twlab.observe.export import harmless, write
from twlab.observe.findings import Findings
from twlab.observe.reading import observe

ADD_ADDRESS = b"\x1e\x08\x30\x01" + ip_address("192.168.77.33").packed  # MPTCP, RFC 8684 section 3.4.1
TOA = b"\xfe\x08\x1f\x90" + ip_address("203.0.113.7").packed  # a balancer's note of the client's address


def test_no_address_stays_in_the_options(tmp_path: Path) -> None:
    """Neither MPTCP's nor a balancer's; the finding and all lengths stay."""
    packets = exchange()
    packets[2] = sent(True, "A", 1001, 5001, 7001, 0.02, stamp=2020, options=ADD_ADDRESS)
    packets[3] = sent(True, "PA", 1001, 5001, 7002, 0.03, 600, stamp=2030, options=TOA)
    name = pcap(tmp_path / "x.pcap", [*packets, again(packets[3], 3.5)])
    run(tmp_path, name, "--anonymize", "--export", "flows")
    (path,) = (tmp_path / "flows").glob("*.pcapng")
    for address in ("192.168.77.33", "203.0.113.7", "10.1.0.1", "10.2.0.1"):
        assert ip_address(address).packed not in path.read_bytes()
    (late,), (before,) = observe([str(path)]).late, observe([name]).late
    assert (late.kind, late.late_s, late.what) == (before.kind, before.late_s, before.what)


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ("", ""),
        ("020405b4 0402 080a0000000100000002 01 030307", "020405b4 0402 080a0000000100000002 01 030307"),
        ("0101 050a0000000100000002", "0101 050a0000000100000002"),
        ("2204abcd 0101", "01010101 0101"),
        ("0206c0a84d21 0101", "010101010101 0101"),  # a length that this kind does not have
        ("01 00 c0a84d21", "01 00 00000000"),
        ("fe08c0a84d21", "010101010101"),  # cut
        ("01 fe", "01 01"),
    ],
)
def test_options_that_are_kept(options: str, left: str) -> None:
    """Size, scale, SACK and timestamps, with the lengths that they have. NOPs stand for the others."""
    assert harmless(bytes.fromhex(options)).hex() == left.replace(" ", "")


def test_no_name_of_a_file_is_handed_on(tmp_path: Path) -> None:
    """Neither on the screen, nor in the JSON, nor in what is written; one name is part of another."""
    folder = tmp_path / "acme-10.9.8.7"
    folder.mkdir()
    packets = exchange()
    packets.append(again(packets[3], 3.5))
    for path in (tmp_path / "bank.pcap", folder / "bank.pcap"):
        pcap(path, packets)
        path.write_bytes(path.read_bytes()[:-30])
    words = ["bank.pcap", "acme-10.9.8.7/bank.pcap", "--anonymize", "--time-wait", "2.5"]
    words += ["--csv", "x.csv", "--out", "x.json", "--publish", "p.json", "--export", "flows", "--json"]
    done = run(tmp_path, *words, status=1)
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".pcap"]
    assert len(written) >= 3
    for text in (done.stdout, done.stderr, *(path.read_bytes().decode("latin-1") for path in written)):
        assert "acme" not in text and "bank" not in text and "10.9.8.7" not in text
    assert "capture-1: it ends" in done.stderr and "capture-2: it ends" in done.stderr
    assert '"command": "twlab observe capture-1 capture-2 --time-wait 2.5 --anonymize"' in done.stdout


def test_a_name_is_replaced_where_it_stands_for_the_file() -> None:
    """A file may be named like a word of the message."""
    found = Findings(files=[("it", 3), ("frame", 2)], faults=["it: it ends in the middle of frame 4"])
    Anonymizer().findings(found)
    assert found.faults == ["capture-1: it ends in the middle of frame 4"]


def run(folder: Path, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "twlab", "observe", *words]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize("names", [("", ""), ("eth0", "eth1")], ids=["unnamed", "named"])
@pytest.mark.parametrize("anonymous", [False, True], ids=["plain", "anonymous"])
@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_an_export_keeps_interfaces_and_the_order_of_time(
    six: bool, anonymous: bool, names: tuple[str, str], tmp_path: Path
) -> None:
    """A packet that was held between two interfaces stays one in the file, and no copy.

    One pcapng with both interfaces, and a file for each.
    """
    packets = exchange(six=six)
    there = [again(packet, 3.5 if number == 3 else packet.t + 0.003) for number, packet in enumerate(packets)]
    there.sort(key=lambda packet: packet.t)
    both = sorted([(each, 0) for each in packets] + [(each, 1) for each in there], key=lambda pair: pair[0].t)
    for files in (
        [pcapng(tmp_path / "both.pcapng", both, names=names)],
        [
            pcapng(tmp_path / f"{number}.pcapng", [(each, 0) for each in way], names=names[number : number + 1])
            for number, way in enumerate((packets, there))
        ],
    ):
        found = observe(files)
        assert [late.kind for late in found.late] == ["delayed"]
        (path,) = write(found, tmp_path / "flows", set(), Anonymizer() if anonymous else None)
        exported = observe([str(path)])
        assert [(late.kind, late.late_s) for late in exported.late] == [("delayed", found.late[0].late_s)]
        assert exported.frames == len(both) and exported.back == 0
        wanted = ("interface-1", "interface-2") if anonymous else names
        assert tuple(interface.name for interface in exported.interfaces) == wanted
