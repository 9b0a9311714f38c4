"""Comments on packets: made and read by one module, and old texts stay readable."""

import re
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from twlab.results import packet_comments
from twlab.results.packet_comments import Comment, Mark, joined, marks, parse, text
from twlab.results.pcapng import read_capture

RUN = ROOT / "tests" / "data" / "runs" / "stale-data"
FIGURES = re.compile(r"\{(\w+):")
# The phrases as they stand in files that have been recorded: never to be changed.
RECORDED = {
    "held by the wire": Comment(Mark.HELD),
    "copied by the wire": Comment(Mark.COPIED),
    "dropped by the wire": Comment(Mark.DROPPED),
    "taken by the wire, to be delayed": Comment(Mark.DELAYING),
    "duplicated by the wire": Comment(Mark.DUPLICATED),
    "put behind 3 later by the wire": Comment(Mark.REORDERED, {"behind": 3}),
    "impaired by the wire": Comment(Mark.IMPAIRED),
    "held 12.000 s by the wire": Comment(Mark.RELEASED, {"late_s": 12.0}),
    "held 0.500 s by the wire, its timestamp stripped": Comment(Mark.RELEASED, {"late_s": 0.5}, stripped=True),
    "copy of the packet from t=0.001 s, released at t=2.000 s": Comment(
        Mark.COPY_RELEASED, {"came_s": 0.001, "at_s": 2.0}
    ),
    "copy of the packet from t=0.001 s, released at t=2.000 s, its timestamp stripped": Comment(
        Mark.COPY_RELEASED, {"came_s": 0.001, "at_s": 2.0}, stripped=True
    ),
    "copy of the packet from t=1.250 s, 0.250 s later": Comment(Mark.COPY_LATE, {"came_s": 1.25, "late_s": 0.25}),
    "delayed 0.300 s by the wire": Comment(Mark.DELAYED, {"late_s": 0.3}),
    "injected by the lab": Comment(Mark.INJECTED),
    "sent by the lab's own endpoint": Comment(Mark.SENT),
}


@st.composite
def comments(draw: st.DrawFn) -> Comment:
    """A phrase with figures as the wire has them."""
    mark = draw(st.sampled_from(Mark))
    figures = {
        name: draw(st.integers(1, 10**6)) if name == "behind" else draw(st.integers(0, 10**9)) / 1000
        for name in FIGURES.findall(mark.value)
    }
    return Comment(mark, figures, draw(st.booleans()))


@given(st.lists(comments(), max_size=4))
def test_what_is_made_is_read_back(made: list[Comment]) -> None:
    """Every mark with every figure, alone or with others, is read as it was made."""
    written = joined(text(one.mark, stripped=one.stripped, **one.figures) for one in made)
    assert list(parse(written)) == made
    assert marks(written) == {one.mark for one in made}


@pytest.mark.parametrize("phrase", RECORDED)
def test_recorded_phrases_are_read_and_still_made(phrase: str) -> None:
    """Each phrase of a recorded file has its mark, and is what is written today."""
    (read,) = parse(phrase)
    assert read == RECORDED[phrase]
    assert text(read.mark, stripped=read.stripped, **read.figures) == phrase


def test_every_mark_has_a_recorded_phrase() -> None:
    """The table above names all marks."""
    assert {one.mark for one in RECORDED.values()} == set(Mark)


@pytest.mark.parametrize("arm", ["control", "treatment"])
def test_a_recorded_capture_has_no_phrase_that_is_not_known(arm: str) -> None:
    """Each phrase in the captures that were recorded before this module existed has a mark."""
    seen = [sighting for sighting in read_capture(RUN / f"{arm}.pcapng") if sighting.comment]
    assert seen
    for sighting in seen:
        assert len(parse(sighting.comment)) == sighting.comment.count("; ") + 1, sighting.comment
    known = {"control": {Mark.COPIED}, "treatment": {Mark.COPIED, Mark.COPY_RELEASED}}[arm]
    assert known <= set().union(*(sighting.marks for sighting in seen))


def test_notes_of_other_programs_are_passed_over() -> None:
    """A note that was added in Wireshark has no mark; the phrases beside it still have theirs."""
    assert marks("look here: dropped by the wire?") == marks("") == frozenset()
    assert marks("look here; dropped by the wire; held up by the wire") == {Mark.DROPPED}


def test_nothing_else_in_the_package_spells_a_phrase() -> None:
    """The words of a comment stand in one module only."""
    words = [phrase for mark in Mark if "{" not in (phrase := mark.value)] + ["copy of the packet"]
    for path in (ROOT / "twlab").rglob("*.py"):
        if path != Path(packet_comments.__file__):
            assert not [phrase for phrase in words if f'"{phrase}' in path.read_text()], path
