"""The ladder of a recorded run, its bulk thinned: what it holds, how it folds and breaks, how it is drawn."""

import re
import shutil
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from twlab.report import ladder, ladder_svg, ladder_text, show
from twlab.report.ladder import Arrow, Break, Caption, Fold, fold, paused
from twlab.report.reading import Sighting
from twlab.report.states import State
from twlab.report.transit import transits
from twlab.segment import Flow, Segment

RUN = ROOT / "tests" / "data" / "runs" / "stale-data"
FLOW = Flow("10.0.1.1", 40000, "10.2.1.1", 80)


def arrow(number: int, at_s: float = 0.0, flags: str = "A", words: str = "") -> Arrow:
    return Arrow(number, number, ("client", "wire", "server"), at_s, at_s, FLOW, flags, 1, 1, 100, None, 1, "", words, False)


def test_stale_data_can_be_seen() -> None:
    """The copy sets out at the wire, names its original, and has the very sequence numbers that the new connection then sends."""
    found = ladder.read(RUN, "treatment")
    arrows = [row for row in found.rows if isinstance(row, Arrow)]
    copy = next(each for each in arrows if each.mark == "copy")
    original = next(each for each in arrows if each.number == int(re.findall(r"copy of #(\d+)", copy.words)[0]))
    assert found.columns == ("client", "wire", "server")
    assert copy.path == ("wire", "server")
    assert (copy.seq, copy.length, original.seq, original.length) == (33_000_001, 400, 33_000_001, 400)
    assert (original.connection, copy.connection) == (1, 2)
    after = [each for each in arrows if each.number > copy.number and each.seq == copy.seq and each.length]
    assert [each.length for each in after] == [800]
    assert "same sequence numbers" in after[0].words


def test_the_states_tell_the_two_arms_apart() -> None:
    """In the treatment the client's TIME-WAIT is gone after one second; in the control it is not gone."""
    told = {
        arm: [row.words() for row in ladder.read(RUN, arm).rows if isinstance(row, State) and row.node == "client"]
        for arm in ("control", "treatment")
    }
    assert told["control"] == ["SYN-SENT", "ESTABLISHED", "FIN-WAIT-1", "TIME-WAIT 60 s"]
    assert told["treatment"] == ["SYN-SENT", "ESTABLISHED", "FIN-WAIT-1", "TIME-WAIT 1 s", "(gone)", "SYN-SENT", "ESTABLISHED"]


@given(st.lists(st.sampled_from(["bulk", "SYN", "marked", "caption"]), max_size=200))
def test_folding_loses_nothing(kinds: list[str]) -> None:
    """Opened again, the folds hold every arrow, in its order; what is marked is never inside one, where there is no crowd."""
    flags = {"SYN": "S"}
    rows = [
        Caption(0.0, "step", "x") if kind == "caption" else arrow(number, 0.0, flags.get(kind, "A"), "held" if kind == "marked" else "")
        for number, kind in enumerate(kinds)
    ]
    folded = fold(rows, crowd=1000)
    assert [row for each in folded for row in (each.arrows if isinstance(each, Fold) else (each,))] == rows
    assert all(one.plain for row in folded if isinstance(row, Fold) for one in row.arrows)
    crowded = [row for each in fold(rows) for row in (each.arrows if isinstance(each, Fold) else (each,))]
    assert crowded == rows


@given(st.lists(st.floats(0, 100), max_size=50))
def test_a_break_stands_in_every_long_pause(times: list[float]) -> None:
    """And in no other."""
    rows = [arrow(number, at_s) for number, at_s in enumerate(sorted(times))]
    breaks = [(row.from_s, row.to_s) for row in paused(rows, 0.5) if isinstance(row, Break)]
    assert breaks == [(one.left_s, other.left_s) for one, other in pairwise(rows) if other.left_s - one.left_s > 0.5]


def test_the_text_fits_and_can_do_without_unicode() -> None:
    """No line is wider than asked for; the fallback is ASCII; colours only where asked for."""
    found = ladder.read(RUN, "treatment")
    for width in (80, 130):
        assert max(map(len, ladder_text.draw(found, width).split("\n"))) <= width
    assert ladder_text.draw(found, 100, ascii_only=True).isascii()
    assert "\033" not in ladder_text.draw(found)
    assert "\033[35m" in ladder_text.draw(found, colour=True)


def test_the_svg_is_well_formed_and_names_every_arrow() -> None:
    """Every arrow has a title, and no colour stands in an attribute."""
    found = ladder.read(RUN, "treatment").unfolded()
    root = ET.fromstring(ladder_svg.draw(found))
    name = "{http://www.w3.org/2000/svg}"
    drawn = [group for group in root.iter(f"{name}g") if "arrow" in group.get("class", "").split()]
    assert len(drawn) == sum(isinstance(row, Arrow) for row in found.rows)
    assert all(group.findtext(f"{name}title") for group in drawn)
    assert not [each for each in root.iter() if each.get("fill") or each.get("stroke")]


def test_a_damaged_arm_does_not_hide_the_others(tmp_path: Path) -> None:
    """`twlab show` names the capture that cannot be read, and goes on."""
    run = shutil.copytree(RUN, tmp_path / "run")
    (run / "control.pcapng").write_bytes((RUN / "control.pcapng").read_bytes()[:500])
    text = "\n".join(show.lines(run, [], unfold=False, width=120, colour=False))
    assert "[broken-capture]" in text
    assert "<< copy" in text


def test_a_transit_is_joined_through_a_gateway() -> None:
    """Two watched nodes, four sightings, addresses rewritten in between, clocks that stand still: one transit."""

    def seen(number: int, interface: str, outbound: bool, source: str) -> Sighting:
        segment = Segment(0.0, source, "10.2.1.1", 40000, 80, 7, 0, "S", 100, None, 0, b"", 20)
        return Sighting(number, interface, outbound, segment, 5, "")

    inside, outside = "10.0.1.1", "10.1.1.1"
    sightings = [
        seen(1, "wire-nat", False, outside),
        seen(2, "wire-server", True, outside),
        seen(3, "nat-c1", False, inside),
        seen(4, "nat-wire", True, outside),
    ]
    (way,) = transits(sightings, ["c1", "nat", "wire", "server"])
    assert way.nodes == ("c1", "nat", "wire", "server")
    assert [sighting.number for sighting in way.sightings] == [3, 4, 1, 2]
    assert not way.lost
