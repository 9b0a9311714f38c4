"""twlab observe on generated captures whose truth is known: every planted packet is found and
named, and nothing else is.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import planted
import pytest
from planted import KINDS, Plan

from twlab.errors import UsageError
from twlab.observe import publish
from twlab.observe.distribution import Distribution
from twlab.observe.findings import Findings
from twlab.observe.reading import observe


def made(plan: Plan, path: Path, **how: object) -> planted.Capture:
    with path.open("wb") as file:
        return planted.pcap(plan, file.write, **how)  # type: ignore[arg-type]


def named(found: Findings) -> set[tuple[int, str]]:
    return {(late.frame.number, late.kind) for late in found.late}


def truth(capture: planted.Capture) -> set[tuple[int, str]]:
    return {(number, kind) for number, kind, _ in capture.planted if kind != "duplicate"}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_every_planted_packet_is_named_and_no_other(kind: str, seed: int, tmp_path: Path) -> None:
    """Precision and recall are 1, whether the capture is analysed at once or in batches of 5,000
    packets.
    """
    plan = dataclasses.replace(KINDS[kind], seed=seed, tuples=200)
    capture = made(plan, tmp_path / "capture.pcap")
    assert len(truth(capture)) > 30
    for batch in (1 << 20, 5000):
        found = observe([str(tmp_path / "capture.pcap")], batch=batch)
        assert named(found) == truth(capture)
        assert (found.connections, found.open) == (capture.connections, 0)
        assert found.duplicates == (capture.frames // 2 if plan.twice_us else 0)


def test_lateness_age_and_the_table_are_those_that_were_planted(tmp_path: Path) -> None:
    """Each lateness is right to a microsecond, and the table counts those beyond each length."""
    capture = made(Plan(copies=0.01), tmp_path / "capture.pcap")
    found = observe([str(tmp_path / "capture.pcap")], lengths_s=(60, 30, 15, 10, 1, 0))
    late = {number: late_s for number, _, late_s in capture.planted}
    for each in found.late:
        assert each.late_s == pytest.approx(late[each.frame.number], abs=1e-6)
        assert each.age_s is not None and each.age_s >= each.late_s
    for length_s, row in found.table.items():
        assert row.exposed == sum(late_s > length_s for late_s in late.values())
    assert (
        found.table[0].watched >= found.closed - 1
        and 0 < found.watched(200) < found.closed
        and found.watched(1000) == 0
    )
    assert len(found.kinds["copy"].lateness) == len(late)
    assert found.kinds["copy"].lateness.high == pytest.approx(max(late.values()), abs=1e-6)


def test_reuse_is_measured(tmp_path: Path) -> None:
    """All gaps are between 2 and 90 s, by the one pair of hosts."""
    capture = made(Plan(copies=0.0, tuples=300), tmp_path / "capture.pcap")
    found = observe([str(tmp_path / "capture.pcap")])
    assert len(found.reuse.gaps) == capture.connections - 300
    assert 2 <= found.reuse.gaps.low < found.reuse.gaps.high <= 90
    ((pair, line),) = found.reuse.pairs.items()
    assert pair == ("10.0.0.1", "10.100.0.1", 80)
    assert line[0] == len(found.reuse.gaps) and line[1] == 0
    assert found.closes["client"] == capture.connections


def test_memory_that_is_too_short_is_said(tmp_path: Path) -> None:
    """With room for 1,000 packets the reach is stated, and what it does not reach is undecided or
    left out, never misnamed.
    """
    capture = made(Plan(copies=0.02), tmp_path / "capture.pcap")
    found = observe([str(tmp_path / "capture.pcap")], batch=2000, keep=4000)
    assert 0 < found.remembered_s < 60
    wrong = {(number, kind) for number, kind in named(found) - truth(capture) if kind not in ("undecided", "delayed")}
    assert not wrong
    reachable = {number for number, _, late_s in capture.planted if late_s < found.remembered_s / 2}
    assert reachable <= {late.frame.number for late in found.late}


def test_rotated_files_are_one_capture(tmp_path: Path) -> None:
    """Files in any order on the command line give what one file gives, with the numbers of frames
    in each file.
    """
    plan = Plan(copies=0.01)
    whole = tmp_path / "whole.pcap"
    made(plan, whole)
    data = whole.read_bytes()
    head, at, cuts = data[:24], 24, []
    while at < len(data):
        cuts.append(at)
        at += 16 + int.from_bytes(data[at + 8 : at + 12], "little")
    parts = []
    for number, (begin, end) in enumerate(((0, 7000), (7000, 19_000), (19_000, len(cuts)))):
        path = tmp_path / f"part-{number}.pcap"
        path.write_bytes(head + data[cuts[begin] : cuts[end] if end < len(cuts) else len(data)])
        parts.append((path, begin))
    one = observe([str(whole)])
    several = observe([str(path) for path, _ in reversed(parts)])
    first = {str(path): begin for path, begin in parts}
    assert {(first[late.frame.file] + late.frame.number, late.kind) for late in several.late} == named(one)
    assert several.frames == one.frames and several.connections == one.connections


def test_published_figures_have_no_address_and_no_time(tmp_path: Path) -> None:
    """An aggregate is what it was after writing and reading; two of them add up; addresses and
    times of day are nowhere in it.
    """
    files = []
    for seed in (1, 2):
        made(Plan(copies=0.01, seed=seed), tmp_path / "capture.pcap")
        found = observe([str(tmp_path / "capture.pcap")])
        path = tmp_path / f"{seed}.json"
        path.write_text(json.dumps(publish.aggregate(found)))
        assert "10.0.0" not in path.read_text() and "17000000" not in path.read_text()
        files.append(path)
    parts = [publish.read(path) for path in files]
    total = publish.merge(parts)
    assert total["captures"] == 2
    for name in ("frames", "connections"):
        assert total[name] == parts[0][name] + parts[1][name]
    late = total["late"]["copy"]["lateness_s"]
    assert late["n"] == sum(part["late"]["copy"]["lateness_s"]["n"] for part in parts)
    assert late["max"] == max(part["late"]["copy"]["lateness_s"]["max"] for part in parts)
    assert total["time_wait"]["10"]["exposed"] == sum(part["time_wait"]["10"]["exposed"] for part in parts)
    (tmp_path / "total.json").write_text(json.dumps(total))
    assert publish.merge([publish.read(tmp_path / "total.json")]) == total


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"kind": "observe-aggregate"}',
        '{"kind": "observe-aggregate", "schema": 1, "captures": "x"}',
        "[" * 5000,
    ],
)
def test_what_is_no_aggregate_is_refused(text: str, tmp_path: Path) -> None:
    """One message, with its slug."""
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UsageError) as caught:
        publish.read(tmp_path / "x.json")
    assert caught.value.slug == "broken-aggregate"


def test_percentiles_of_a_distribution_are_within_one_percent() -> None:
    """Against the exact values, after writing and reading, and after adding up halves."""
    import numpy as np

    values = np.exp(np.random.default_rng(7).uniform(np.log(1e-5), np.log(1e3), 20_000))
    whole, half, other = Distribution(), Distribution(), Distribution()
    whole.add(values)
    half.add(values[:9000])
    other.add(values[9000:])
    half.merge(Distribution.from_dict(other.as_dict()))
    for share in (0.01, 0.5, 0.9, 0.99, 1.0):
        exact = float(np.quantile(values, share))
        assert whole.quantile(share) == pytest.approx(exact, rel=0.015)
        assert half.quantile(share) == pytest.approx(whole.quantile(share), rel=1e-5)
    assert (len(whole), whole.high) == (20_000, float(values.max()))
