"""twlab observe on the lab's own captures, where the comments say what the lab did to which packet."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT
from whole_catalogue import CATALOGUE, InTheGuest

from twlab.observe.findings import Findings, Late
from twlab.observe.history import SLACK_IDS
from twlab.observe.reading import observe
from twlab.results.pcapng import Sighting, read_capture
from twlab.segment import distance

RUN = ROOT / "tests" / "data" / "runs" / "stale-data"
Identity = tuple[object, ...]


def identity(sighting: Sighting) -> Identity:
    """What stays the same of a packet at all interfaces, behind a NAT gateway too."""
    segment = sighting.segment
    return sighting.ip_id, segment.seq, segment.ack, segment.flags, segment.length, segment.timestamp


def put_there(comment: str) -> bool:
    """Whether the lab made a packet, or held it for longer than the analysis takes for ordinary."""
    held = re.search(r"held (\d+\.\d+) s", comment)
    return "injected" in comment or "copy of" in comment or bool(held and float(held[1]) > 1)


def touched(comment: str) -> bool:
    """Whether the lab changed what would have become of a packet."""
    return put_there(comment) or any(word in comment for word in ("held", "delayed", "impaired", "put behind"))


def forged_throughout(sightings: list[Sighting]) -> set[object]:
    """The directions of four-tuples in which the lab made every packet: no vantage point could tell
    them from a host's.
    """
    made = {identity(each) for each in sightings if "injected" in each.comment}
    flows: dict[object, bool] = {}
    for each in sightings:
        flows[each.segment.flow] = flows.get(each.segment.flow, True) and identity(each) in made
    return {flow for flow, forged in flows.items() if forged}


def hidden(made: Sighting, sightings: list[Sighting]) -> bool:
    """Whether an injected segment is one that its host could have sent. No vantage point could tell.

    It is an ACK without data, with an identification that happens to follow the host's own. Or it is
    IPv6 without timestamps, the next in order, and the host sent nothing else in its place.
    """
    if not made.ip_id and made.segment.timestamp is None and ":" in made.segment.source:
        same = [each for each in sightings if each.segment.flow == made.segment.flow and not each.comment]
        before = [each.segment.end_seq for each in same if each.number < made.number]
        after = [each.segment for each in same if each.number > made.number]
        end = made.segment.end_seq
        if before and before[-1] == made.segment.seq:
            return not any(distance(end, one.seq) > 0 and distance(one.end_seq, made.segment.seq) > 0 for one in after)
    own = [
        each.ip_id
        for each in sightings
        if each.segment.flow == made.segment.flow and each.number < made.number and each.ip_id and not each.comment
    ]
    ahead = (made.ip_id - own[-1]) % (1 << 16) if own and made.ip_id else 1 << 16
    return made.segment.flags == "A" and made.segment.length == 0 and ahead <= SLACK_IDS


def compare(path: Path, *, restarts: bool = False, balanced: bool = False) -> tuple[Findings, int]:
    """Check one capture; what was found, and how many packets the lab had put there.

    Args:
        restarts: an end restarts, and numbers its packets from the beginning again, as devices do.
            No vantage point tells those from another's.
        balanced: a balancer on the way translates, and leads one four-tuple by different interfaces.
            What does not pass where its direction was seen first is undecided, and rightly.
    """
    sightings = read_capture(path)
    by_number = {each.number: each for each in sightings}
    comments: dict[Identity, str] = {}
    for each in sightings:
        comments[identity(each)] = f"{comments.get(identity(each), '')}; {each.comment}"
    forged = forged_throughout(sightings)
    wanted = {identity(each): each for each in sightings if put_there(each.comment) and each.segment.flow not in forged}
    found = observe([str(path)])
    named: dict[Identity, Late] = {identity(by_number[late.frame.number]): late for late in found.late}
    for key, each in wanted.items():
        if key not in named and hidden(each, sightings):
            continue
        assert key in named, f"{path} #{each.number}: {each.comment}"
        kind = named[key].kind
        if "copy of" in each.comment:
            assert kind == "copy", f"{path} #{each.number}: {each.comment}: {kind}, {named[key].rule}"
        else:
            assert kind in ("copy", "foreign", "delayed", "undecided"), f"{path} #{each.number}: {each.comment}: {kind}"
    for key, late in named.items():
        if restarts:
            continue
        if late.kind in ("copy", "foreign", "delayed"):
            assert touched(comments[key]), f"{path} #{late.frame.number} is called {late.kind}: {late.rule}"
        elif late.kind == "undecided" and not balanced and not touched(comments[key]):
            unknowable = late.rule.startswith("identical, but neither")  # IPv6 without timestamps
            gateways_own = "did not pass" in late.rule and late.what.startswith("RST")
            assert unknowable or gateways_own, f"{path} #{late.frame.number}: {late.rule}"
    return found, len(wanted)


def test_the_stale_segment_of_the_readme_is_found_and_proved() -> None:
    """It is a copy, it met the next connection, that one took it, and its bytes were not those that
    the connection sent.
    """
    found, wanted = compare(RUN / "treatment.pcapng")
    assert wanted == 1
    (late,) = found.late
    assert (late.kind, late.frame.number, late.against[0].number) == ("copy", 304, 264)
    assert late.met and late.harmed and late.contents == "differ"
    assert late.late_s == pytest.approx(1.921, abs=0.001)
    assert found.table[1].harmed == 1 and found.table[10].exposed == 0


def test_the_control_has_nothing() -> None:
    """No packet is named where the lab put none."""
    found, wanted = compare(RUN / "control.pcapng")
    assert wanted == 0 and not found.late


def test_a_segment_with_lower_numbers_than_the_open_connection_is_compared(tmp_path: Path) -> None:
    """A capture after itself: the differences of sequence numbers wrap, without a warning."""
    again = tmp_path / "again.pcapng"
    again.write_bytes((RUN / "treatment.pcapng").read_bytes())
    found = observe([str(RUN / "treatment.pcapng"), str(again)])
    assert {late.contents for late in found.late} >= {"differ"}


@pytest.mark.guest
@pytest.mark.slow
def test_every_scenario(in_the_guest: InTheGuest) -> None:
    """All arms of all scenarios: what the lab injected, copied or held is named, and nothing else
    is.
    """
    planted = captures = 0
    for name in CATALOGUE:
        result = in_the_guest(name)
        balanced = result.topology.partition(",")[0] in ("dnat", "ipvs", "two-balancers")
        for arm in result.arms.values():
            if arm.capture:
                path = in_the_guest.folders[name] / arm.capture
                planted += compare(path, restarts=name == "device-reboot", balanced=balanced)[1]
                captures += 1
    assert captures > 150 and planted > 150
