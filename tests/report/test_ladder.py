"""The ladder of a recorded run, its bulk thinned: what it holds, how it folds and breaks, how it is
drawn.
"""

import re
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from twlab.report.ladder import ladder
from twlab.report.ladder import svg as ladder_svg
from twlab.report.ladder import text as ladder_text
from twlab.report.ladder.arrows import arrows, parted
from twlab.report.ladder.folding import fold, paused
from twlab.report.ladder.rows import Arrow, Break, Caption, Fold
from twlab.report.ladder.states import State, follow
from twlab.report.ladder.transits import Transit, transits
from twlab.report.text import show
from twlab.results.pcapng import Sighting
from twlab.results.result import ArmResult
from twlab.segment import Flow, Segment

RUN = ROOT / "tests" / "data" / "runs" / "stale-data"
FLOW = Flow("10.0.1.1", 40000, "10.2.1.1", 80)


def arrow(number: int, at_s: float = 0.0, flags: str = "A", words: str = "") -> Arrow:
    return Arrow(
        number, number, ("client", "wire", "server"), at_s, at_s, FLOW, flags, 1, 1, 100, None, 1, "", words, False
    )


def transit(
    number: int,
    client_sends: bool,
    flags: str,
    seq: int,
    ack: int,
    length: int = 0,
    timestamps: tuple[int, int] | None = None,
) -> Transit:
    """A segment between client and server that was seen once, a tenth of a second after the last."""
    nodes, ends = ("client", "server"), ("10.0.1.1", "10.2.1.1", 40000, 80)
    if not client_sends:
        nodes, ends = ("server", "client"), ("10.2.1.1", "10.0.1.1", 80, 40000)
    segment = Segment(number / 10, *ends, seq, ack, flags, 100, timestamps, length, b"", 20)
    return Transit(nodes, (Sighting(number, "x", False, segment, 0, ""),), False)


def test_stale_data_can_be_seen() -> None:
    """The copy sets out at the wire, names its original, and has the very sequence numbers that the
    new connection then sends.
    """
    found = ladder.read(RUN, "treatment")
    arrows = [row for row in found.rows if isinstance(row, Arrow)]
    copy = next(each for each in arrows if each.mark == "copy")
    original = next(each for each in arrows if each.number == int(re.findall(r"copy of #(\d+)", copy.words)[0]))
    assert tuple(column.name for column in found.columns) == ("client", "wire", "server")
    assert copy.path == ("wire", "server")
    assert (copy.seq, copy.length, original.seq, original.length) == (33_000_001, 400, 33_000_001, 400)
    assert (original.connection, copy.connection) == (1, 2)
    assert copy.words.endswith("; in the present connection seq 2,969,869 ack 2,969,869")
    after = [each for each in arrows if each.number > copy.number and each.seq == 2_969_869 and each.length]
    assert [each.length for each in after] == [800]
    assert "same sequence numbers" in after[0].words


def test_the_states_tell_the_two_arms_apart() -> None:
    """In the treatment the client's TIME-WAIT is gone after one second; in the control it is not
    gone.
    """
    told = {
        arm: [row.words() for row in ladder.read(RUN, arm).rows if isinstance(row, State) and row.node == "client"]
        for arm in ("control", "treatment")
    }
    assert told["control"] == ["SYN-SENT", "ESTABLISHED", "FIN-WAIT-1", "TIME-WAIT 60 s"]
    assert told["treatment"] == [
        "SYN-SENT",
        "ESTABLISHED",
        "FIN-WAIT-1",
        "TIME-WAIT 1 s",
        "(gone)",
        "SYN-SENT",
        "ESTABLISHED",
    ]


@given(st.lists(st.sampled_from(["bulk", "SYN", "marked", "caption"]), max_size=200))
def test_folding_loses_nothing(kinds: list[str]) -> None:
    """Opened again, the folds hold every arrow, in its order; what is marked is never inside one,
    where there is no crowd.
    """
    flags = {"SYN": "S"}
    rows = [
        Caption(0.0, "step", "x")
        if kind == "caption"
        else arrow(number, 0.0, flags.get(kind, "A"), "held" if kind == "marked" else "")
        for number, kind in enumerate(kinds)
    ]
    folded = fold(rows, crowd=1000)
    assert [row for each in folded for row in (each.rows if isinstance(each, Fold) else (each,))] == rows
    assert all(one.plain for row in folded if isinstance(row, Fold) for one in row.arrows)
    crowded = [row for each in fold(rows) for row in (each.rows if isinstance(each, Fold) else (each,))]
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
    """Two watched nodes, four sightings, addresses rewritten in between, clocks that stand still:
    one transit.
    """

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


def connect(number: int, at_s: float, client: str, port: int, answered: bool) -> list[Arrow | Caption]:
    """One SYN, its answer if it has one, and what the client says of it."""
    flow, path = Flow("10.0.1.1", port, "10.2.1.1", 80), (client, "nat", "server")
    syn = Arrow(
        number, number, path, at_s, at_s, flow, "S", 0, None, 0, None, 1, "" if answered else "unanswered", "", False
    )
    back = Arrow(number + 1, number + 1, path[::-1], at_s, at_s, flow.reversed(), "SA", 0, 1, 0, None, 1, "", "", False)
    return [syn, *([back] if answered else []), Caption(at_s, "verb", "connects" if answered else "fails", client)]


def test_connects_that_go_alike_are_folded() -> None:
    """The first that is answered and the first that is not stand there; one line for each kind
    tells of the others, and from whom they came.
    """
    rows = [
        row
        for turn in range(10)
        for row in (
            *connect(10 * turn + 1, turn, "c1", 1000 + turn, True),
            *connect(10 * turn + 5, turn + 0.5, f"c{turn + 2}", 2000 + turn, False),
        )
    ]
    *first, folded = fold([Caption(0.0, "step", "x"), *rows])
    assert (
        first == [Caption(0.0, "step", "x"), *rows[:5]] and isinstance(folded, Fold) and list(folded.rows) == rows[5:]
    )
    assert [strand.words for strand in folded.strands] == [
        "9 more connects from c1 like #1 to #2: each is answered",
        "9 more connects from c3 … c11 like #5: none is answered",
    ]
    assert [(strand.ends, strand.mark) for strand in folded.strands] == [
        (("c1", "server"), ""),
        (("c3", "server"), "unanswered"),
    ]


def test_a_few_clients_are_told_apart() -> None:
    """Of two clients that fare alike the first connect of each stands there."""
    rows = [row for turn in range(10) for row in connect(10 * turn + 1, turn, f"c{turn % 2}", 1000 + turn, True)]
    shown = fold(rows)
    assert [row.path[0] for row in shown if isinstance(row, Arrow) and row.flags == "S"] == ["c0", "c1"]
    assert [strand.nodes for row in shown if isinstance(row, Fold) for strand in row.strands] == [("c0",), ("c1",)]


def test_what_goes_otherwise_is_never_folded_away() -> None:
    """An answer among refusals, or a refusal among answers, stays in sight."""
    rows = [row for turn in range(9) for row in connect(10 * turn + 1, turn, "c1", 1000 + turn, turn != 4)]
    shown = fold(rows)
    assert [row.number for row in shown if isinstance(row, Arrow)] == [1, 2, 41]
    assert [row for each in shown for row in (each.rows if isinstance(each, Fold) else (each,))] == rows


def segment_seen(
    number: int,
    at_s: float,
    interface: str,
    outbound: bool,
    flags: str,
    tsval: int,
    port: int = 40000,
    comment: str = "",
) -> Sighting:
    back = "S" in flags and "A" in flags
    ends = ("10.2.1.1", "10.0.1.1", 80, port) if back else ("10.0.1.1", "10.2.1.1", port, 80)
    return Sighting(
        number, interface, outbound, Segment(at_s, *ends, 7, 8, flags, 100, (tsval, 0), 0, b"", 20), number, comment
    )


def test_a_syn_that_nobody_answers_says_so_and_how_its_clock_stands() -> None:
    """Compared with the last segment from its address; one that is answered says nothing."""
    seen = [
        (0.0, "wire-client", "wire-server", "S", 5000, 40000),
        (0.1, "wire-server", "wire-client", "SA", 900, 40000),
        (0.2, "wire-client", "wire-server", "S", 2000, 40001),
        (1.2, "wire-client", "wire-server", "S", 3000, 40001),
    ]
    sightings = []
    for number, (at_s, one, other, flags, tsval, port) in enumerate(seen):
        for outbound, interface in ((False, one), (True, other)):
            sighting = segment_seen(2 * number + outbound, at_s, interface, outbound, flags, tsval, port)
            sightings.append(replace(sighting, ip_id=number))
    made = arrows(transits(sightings, ["client", "wire", "server"]))
    assert [(arrow.mark, arrow.words) for arrow in made] == [
        ("", ""),
        ("", ""),
        ("unanswered", "no answer; its timestamp is 3,000 lower than in #1 from the same address"),
        ("unanswered", "no answer; its timestamp is 2,000 lower than in #1 from the same address"),
    ]


def test_a_segment_that_the_wire_held_sets_out_and_arrives() -> None:
    """Two arrows of one number: to the wire when it was sent, and on from there when it was let go."""
    sightings = [
        segment_seen(1, 1.0, "wire-client", False, "A", 5),
        replace(segment_seen(2, 13.0, "wire-server", True, "A", 5, comment="held 12.000 s by the wire"), ip_id=1),
    ]
    out, on = parted(arrows(transits(sightings, ["client", "wire", "server"])))
    assert (out.path, out.left_s, out.part, out.words) == (("client", "wire"), 1.0, "out", "held 12.000 s by the wire")
    assert (on.path, on.left_s, on.part, on.words) == (
        ("wire", "server"),
        13.0,
        "in",
        "12 s late; it set out at 1.0000 s",
    )


def test_nodes_that_go_alike_share_a_column() -> None:
    """Those that stand only in folds, by what became of them; an arrow of theirs says whose it is."""
    rows = fold([row for turn in range(6) for row in connect(10 * turn + 1, turn, f"c{turn + 1}", 1000 + turn, False)])
    ways = [
        Transit((f"c{number}", "nat", "server"), (segment_seen(number, 0.0, "nat-x", False, "S", 1),), False)
        for number in range(1, 7)
    ]
    shared = ladder.columns(ways, ArmResult("control"), rows)
    assert [column.name for column in shared] == ["c1", "c2 … c6", "nat", "server"]
    drawn = ladder.Ladder("s", "a", "control", shared, tuple(rows))
    assert drawn.label(drawn.unfolded().rows[4]) == "#21 c3: SYN seq 0"  # type: ignore[arg-type]


def test_a_fin_that_overtakes_data_does_not_begin_time_wait() -> None:
    """TIME-WAIT begins when the FIN is acknowledged, which it is when all before it is there."""
    ways = [
        transit(1, True, "S", 0, 0),
        transit(2, False, "SA", 0, 1),
        transit(3, True, "A", 1, 1),
        transit(4, True, "FA", 1, 1),
        transit(5, False, "FA", 501, 2),
        transit(6, True, "A", 2, 1),
        transit(7, False, "PA", 1, 2, 500),
        transit(8, True, "A", 2, 502),
    ]
    told = [
        (state.state, state.after)
        for state in follow(ways, ArmResult("control", virtual_s=1.0))
        if state.node == "client" and state.after
    ]
    assert told == [("SYN-SENT", 1), ("ESTABLISHED", 2), ("FIN-WAIT-1", 4), ("FIN-WAIT-2", 5), ("TIME-WAIT", 8)]


def test_a_recycled_time_wait_claims_no_length() -> None:
    """Its length is 3.5 times a timeout that the wire does not show; it is over when the node was
    seen to have fewer.
    """
    ways = [
        transit(1, True, "S", 0, 0, timestamps=(1, 1)),
        transit(2, False, "SA", 0, 1, timestamps=(1, 1)),
        transit(3, True, "A", 1, 1, timestamps=(1, 1)),
        transit(4, False, "FA", 1, 1, timestamps=(1, 1)),
        transit(5, True, "FA", 1, 2, timestamps=(1, 1)),
        transit(6, False, "A", 2, 2, timestamps=(1, 1)),
    ]
    counted = {"server": [[0.0, 1, 0], [0.61, 1, 1], [1.3, 1, 0]]}
    arm = ArmResult("treatment", settings={"server": {"tw_recycle": True}}, sockets=counted, virtual_s=9.0)
    told = [(state.words(), state.at_s) for state in follow(ways, arm) if state.node == "server"]
    assert told[-2:] == [("TIME-WAIT", 0.6), ("(gone)", 1.3)]
