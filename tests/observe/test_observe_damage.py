"""Bad input to twlab observe: a message, never a traceback, and what was read before the fault is
reported.
"""

from __future__ import annotations

import gzip
import io
import random
import resource
import subprocess
import sys
from pathlib import Path
from struct import pack

import pytest
from conftest import ROOT
from mutations import of_capture
from planted import Plan, pcap, pcapng

from twlab.errors import UsageError
from twlab.observe.findings import Findings
from twlab.observe.reading import observe

PLAN = Plan(tuples=12, windows=1, copies=0.05)
MUTATIONS = 300  # of each form


def blob(form: str, plan: Plan = PLAN) -> bytes:
    file = io.BytesIO()
    (pcapng if form == "pcapng" else pcap)(plan, file.write)
    return file.getvalue()


def read(path: Path, data: bytes) -> Findings | UsageError:
    path.write_bytes(data)
    try:
        return observe([str(path)], batch=1 << 14, keep=1 << 14)
    except UsageError as error:
        return error


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_truncation_at_every_byte_of_the_first_records(form: str, tmp_path: Path) -> None:
    """Cut anywhere, the whole frames before the cut are read, and the cut is said, unless it is
    between two records.
    """
    data = blob(form)
    whole = read(tmp_path / "x", data)
    assert isinstance(whole, Findings) and not whole.faults
    seen = 0
    for size in range(600):
        found = read(tmp_path / "x", data[:size])
        if isinstance(found, UsageError):
            assert found.slug == "not-a-capture" and size < 4
            continue
        assert found.frames in (seen, seen + 1)
        seen = found.frames
        assert found.faults or size in _ends(data, form)
    assert seen >= 3


def _ends(data: bytes, form: str) -> set[int]:
    """Where one record ends and the next begins."""
    at, ends = (24, {24}) if form == "pcap" else (0, set())
    while at + 16 <= len(data):
        at += (
            int.from_bytes(data[at + 4 : at + 8], "little")
            if form == "pcapng"
            else 16 + int.from_bytes(data[at + 8 : at + 12], "little")
        )
        ends.add(at)
    return ends


@pytest.mark.parametrize("form", ["pcap", "pcapng"])
def test_mutated_files(form: str, tmp_path: Path) -> None:
    """Some hundred; benchmarks/mutations.py has 10,000. What is left is read without a traceback."""
    original = blob(form, Plan(tuples=6, windows=1, window_s=20.0, copies=0.05))
    for seed in range(MUTATIONS):
        read(tmp_path / "x", of_capture(original, random.Random(seed)))


@pytest.mark.parametrize("form", ["gzip", "zstd", "lz4"])
def test_damaged_compression(form: str, tmp_path: Path) -> None:
    """Cut short or changed, what was decompressed before is read, and the fault is said."""
    import lz4.frame
    import zstandard

    data = blob("pcap", Plan(tuples=100, windows=2, copies=0.01))
    packed = {"gzip": gzip.compress, "zstd": zstandard.compress, "lz4": lz4.frame.compress}[form](data)
    for size in (5, 20, len(packed) // 2, len(packed) - 3):
        found = read(tmp_path / "x", packed[:size])
        assert isinstance(found, UsageError) or found.faults
    dice = random.Random(5)
    for _ in range(200):
        changed = bytearray(packed)
        changed[dice.randrange(4, len(changed))] ^= 1 << dice.randrange(8)
        read(tmp_path / "x", bytes(changed))


def section(order: str = "<") -> bytes:
    return pack(f"{order}IIIHHqI", 0x0A0D0D0A, 28, 0x1A2B3C4D, 1, 0, -1, 28)


def interface(resolution: int, offset: int = 0) -> bytes:
    return (
        pack("<IIHHI", 1, 44, 1, 0, 0)
        + pack("<HHBxxx", 9, 1, resolution)
        + pack("<HHq", 14, 8, offset)
        + pack("<II", 0, 44)
    )


@pytest.mark.parametrize("resolution", [0, 1, 6, 9, 12, 18, 19, 127, 128, 137, 160, 190, 255])
@pytest.mark.parametrize("ticks", [0, 1, 1 << 62, (1 << 63) - 1, (1 << 64) - 1])
def test_corrupt_times_of_pcapng(resolution: int, ticks: int, tmp_path: Path) -> None:
    """Any time in any resolution: either it is a time, or the frame is counted as one without."""
    frame = bytes(60)
    body = pack("<IIIIIII", 6, 92, 0, ticks >> 32, ticks & 0xFFFFFFFF, 60, 60) + frame + pack("<I", 92)
    for offset in (0, 1 << 40, -(1 << 62)):
        found = read(tmp_path / "x", section() + interface(resolution, offset) + body)
        assert isinstance(found, Findings) and found.frames == 1 and found.bad_times in (0, 1)


HOSTILE = {
    "pcap record of 4 GB": pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)
    + pack("<IIII", 1, 1, 0xFFFFFFFF, 0xFFFFFFFF)
    + bytes(99),
    "pcap record of 2 MB": pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1)
    + pack("<IIII", 1, 1, 2 << 20, 60)
    + bytes(2 << 20),
    "pcapng block of 4 GB": section() + pack("<II", 6, 0xFFFFFFFC) + bytes(99),
    "pcapng block of 12 bytes that claims to be a packet": section() + pack("<III", 6, 12, 12),
    "pcapng block of length 0": section() + pack("<II", 6, 0) + bytes(64),
    "pcapng packet without interface": section() + pack("<IIIIIII", 6, 32, 0, 0, 0, 0, 0) + pack("<I", 32),
    "pcapng packet that keeps more than its block": section()
    + interface(9)
    + pack("<IIIIIII", 6, 32, 0, 0, 0, 99, 99)
    + pack("<I", 32),
    "pcapng section without byte order": pack("<III", 0x0A0D0D0A, 28, 0) + bytes(16),
    "pcapng with a block of 1 GB to skip": section() + pack("<II", 0xBAD, 1 << 30) + bytes(1000),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_lengths(what: str, tmp_path: Path) -> None:
    """They are said to be damage; memory does not follow what a file claims."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = read(tmp_path / "x", HOSTILE[what])
    assert isinstance(found, Findings) and found.faults, found
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


def test_what_was_read_before_the_fault_is_shown(tmp_path: Path) -> None:
    """The command prints the findings, names the fault and the frame, and exits with 1."""
    data = blob("pcap", Plan(tuples=100, windows=2, copies=0.02))
    (tmp_path / "x.pcap").write_bytes(data[: len(data) - 100])
    done = subprocess.run(
        [sys.executable, "-m", "twlab", "observe", str(tmp_path / "x.pcap")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 1 and "ends in the middle of frame" in done.stderr and "Traceback" not in done.stderr
    assert "network copy" in done.stdout and "closed " in done.stdout


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\n", b"\x7fELF" + bytes(99), b"\x1f\x8b\x08" + bytes(30)])
def test_what_is_no_capture_is_refused(data: bytes, tmp_path: Path) -> None:
    """One message, exit status 2, or 1 if it could be a damaged one."""
    (tmp_path / "x").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "twlab", "observe", str(tmp_path / "x")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr and done.stderr.startswith("twlab:")


def test_packets_of_random_bytes(tmp_path: Path) -> None:
    """Frames whose headers are noise, on every link type and below every EtherType that is looked
    into.
    """
    dice = random.Random(3)
    for link in (0, 1, 12, 101, 108, 113, 276, 228):
        data = pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, link)
        for number in range(4000):
            frame = bytearray(dice.randbytes(dice.randrange(120)))
            if len(frame) > 40:
                kind = dice.choice((0x0800, 0x86DD, 0x8100, 0x88A8, 0x8847, 0x8864))
                frame[12:16] = pack("!HBB", kind, dice.choice((0x45, 0x46, 0x60, 0x4F)), 0)
                frame[23] = dice.choice((4, 6, 17, 41, 47))
                frame[20] = dice.choice((0, 6, 44, 60, 17))
            data += pack("<IIII", 1000 + number, 0, len(frame), dice.choice((len(frame), 0, 1 << 31))) + frame
        found = read(tmp_path / "x", data)
        assert isinstance(found, Findings) and found.frames == 4000 and not found.faults
