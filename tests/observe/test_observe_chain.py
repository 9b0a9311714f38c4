"""Records found many at once are those that are found one after the other."""

from __future__ import annotations

import dataclasses
import io
import json
import random
from pathlib import Path
from struct import pack_into, unpack_from

import pytest
from conftest import ROOT
from mutations import of_capture
from planted import KINDS, Plan, pcap, pcapng

from twlab.observe import chain
from twlab.observe.chain import Format, follow
from twlab.observe.reading import observe
from twlab.observe.record import as_dict

SLACK = bytes(256)
PCAP = Format("<", 8, 16, 16, 16 + (1 << 20), b"\x53\x65", 2)
PCAPNG = Format("<", 4, 0, 12, 4 << 20, b"\x06\0\0\0", 0)
RUN = ROOT / "tests" / "data" / "runs" / "stale-data"


def one_by_one(data: bytes, at: int, end: int, form: Format) -> tuple[list[int], int]:
    """The reference."""
    found = []
    while at + form.field + 4 <= end:
        size = unpack_from(f"{form.order}I", data, at + form.field)[0] + form.more
        if size < form.least or size > form.most or at + size > end:
            break
        found.append(at)
        at += size
    return found, at


def records(form: Format, dice: random.Random, count: int) -> bytearray:
    """Records of all sizes whose contents are full of what looks like the beginning of one."""
    data = bytearray()
    for _ in range(count):
        size = form.least + 4 * dice.choice((0, 1, dice.randrange(20), dice.randrange(400), dice.randrange(2000)))
        record = bytearray(dice.choice((bytes(size), form.sign * (size // len(form.sign) + 1), dice.randbytes(size))))[
            :size
        ]
        pack_into(f"{form.order}I", record, form.field, size - form.more)
        record[form.sign_at : form.sign_at + len(form.sign)] = form.sign
        data += record
    return data


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("form", [PCAP, PCAPNG], ids=["pcap", "pcapng"])
@pytest.mark.parametrize("seed", range(8))
def test_random_chains(form: Format, order: str, seed: int) -> None:
    """Whole, cut anywhere, and with damage anywhere."""
    form = dataclasses.replace(form, order=order)
    dice = random.Random(seed)
    data = records(form, dice, dice.choice((1, 300, 3000)))
    for damage in (False, True):
        data = bytearray(of_capture(bytes(data), random.Random(seed))) if damage else data
        end = len(data) if dice.random() < 0.5 else dice.randrange(len(data) + 1)
        at, behind = follow(data + SLACK, 0, end, form)
        assert (at.tolist(), behind) == one_by_one(data + SLACK, 0, end, form)


@pytest.mark.parametrize("kind", ["SPAN port, clock set back", "offloaded segments", "all at once"])
def test_results_are_the_same_to_the_byte(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Generated captures, with lanes and without."""
    plan = dataclasses.replace(KINDS[kind], seed=3, tuples=30)
    for write in (pcap, pcapng):
        file = io.BytesIO()
        write(plan, file.write)
        (tmp_path / "x").write_bytes(file.getvalue())
        _compare(tmp_path / "x", monkeypatch)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("write", [pcap, pcapng])
def test_results_are_the_same_of_damaged_captures(write, seed: int, tmp_path: Path, monkeypatch) -> None:
    """Frames, faults and findings."""
    file = io.BytesIO()
    write(Plan(tuples=30, windows=1, copies=0.05), file.write)
    (tmp_path / "x").write_bytes(of_capture(file.getvalue(), random.Random(seed)))
    _compare(tmp_path / "x", monkeypatch)


@pytest.mark.parametrize("name", ["control", "treatment"])
def test_results_are_the_same_of_a_run(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lab's own captures, several interfaces and comments in them."""
    _compare(RUN / f"{name}.pcapng", monkeypatch)


def _compare(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for few in (8, 1 << 40):
        monkeypatch.setattr(chain, "_FEW", few)
        found.append(json.dumps(as_dict([observe([str(path)], batch=1 << 16, keep=1 << 16)], "")))
    assert found[0] == found[1]
