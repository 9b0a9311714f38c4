"""Numbers relative to a segment's own connection, however often its four-tuple is opened; and the
next segment that an end could send.
"""

from hypothesis import given
from hypothesis import strategies as st

from twlab.report.ladder.arrows import arrows
from twlab.report.ladder.numbering import Numbering
from twlab.report.ladder.transits import Transit, next_segment
from twlab.results.pcapng import Sighting
from twlab.segment import Flow, Segment, advance

FLOW = Flow("10.0.1.1", 40000, "10.2.1.1", 80)
CLOCK = 15_625_000  # Linux's initial sequence numbers rise by so much in a second


def made(flow: Flow, seq: int, ack: int = 0, flags: str = "A", length: int = 0, tsval: int = 1) -> Segment:
    return Segment(
        0.0, *flow[:1], flow[2], flow[1], flow[3], seq % 2**32, ack % 2**32, flags, 100, (tsval, 0), length, b"", 20
    )


def ways(*segments: tuple[Segment, str]) -> list[Transit]:
    """A transit from end to end for each segment, with what the lab did to it."""
    found = []
    for number, (segment, comment) in enumerate(segments, 1):
        path = ("client", "wire", "server") if segment.flow == FLOW else ("server", "wire", "client")
        came, went = (
            Sighting(2 * number + sent, f"wire-{path[2 * sent]}", bool(sent), segment, number, comment)
            for sent in (0, 1)
        )
        own = comment.startswith(("copy of", "injected"))
        found.append(Transit(path[1:] if own else path, (went,) if own else (came, went), False))
    return found


def connection(first: int, peer: int, length: int) -> list[tuple[Segment, str]]:
    """A connection that carries `length` bytes and is closed by the client."""
    back = FLOW.reversed()
    end = first + 1 + length
    return [
        (made(FLOW, first, flags="S"), ""),
        (made(back, peer, first + 1, "SA"), ""),
        (made(FLOW, first + 1, peer + 1), ""),
        (made(FLOW, first + 1, peer + 1, "PA", length), ""),
        (made(back, peer + 1, end), ""),
        (made(FLOW, end, peer + 1, "FA"), ""),
        (made(back, peer + 1, end + 1, "FA"), ""),
        (made(FLOW, end + 1, peer + 2), ""),
    ]


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 2**32 - 1),
    st.floats(0.1, 130),
    st.floats(0.1, 130),
    st.integers(1, 60_000),
)
def test_each_connection_of_a_four_tuple_begins_at_0(
    first: int, peer: int, after_s: float, then_s: float, length: int
) -> None:
    """Three in a row, anywhere on the circle: all are numbered alike, as the first is."""
    later, last = round(after_s * CLOCK), round((after_s + then_s) * CLOCK)
    story = [each for by in (0, later, last) for each in connection(first + by, peer + by, length)]
    numbers = [(arrow.seq, arrow.ack) for arrow in arrows(ways(*story))]
    assert numbers[:8] == numbers[8:16] == numbers[16:] == [
        (0, None), (0, 1), (1, 1), (1, 1), (1, 1 + length), (1 + length, 1), (1, 2 + length), (2 + length, 2),
    ]  # fmt: skip


def test_a_copy_bears_the_numbers_of_its_original() -> None:
    """Its words say which numbers of the present connection these are."""
    first, peer, later = 1000, 5000, 60 * CLOCK
    copy = made(FLOW, first + 1, peer + 1, "PA", 40)
    said = "copy of the packet from t=0.0 s, released at t=60.0 s"
    story = [*connection(first, peer, 40), *connection(first + later, peer + later, 40)[:3], (copy, said)]
    last = arrows(ways(*story))[-1]
    assert (last.mark, last.seq, last.ack, last.words) == (
        "copy",
        1,
        1,
        "copy of #4 from t=0.0 s, released at t=60.0 s",
    )
    near = story[:8] + connection(first + 100, peer + 100, 40)[:3] + story[-1:]
    words = arrows(ways(*near))[-1].words
    assert words.endswith("; in the present connection seq -99 ack -99")


def test_a_late_segment_of_an_earlier_connection_keeps_its_numbers() -> None:
    """Its FIN, sent again after the four-tuple was opened anew, is still that of the first."""
    story = [*connection(1000, 5000, 40), *connection(1000 + 3 * CLOCK, 5000 + 3 * CLOCK, 40)[:3]]
    again = (made(FLOW.reversed(), 5001, 1042, "FA"), "")
    last = arrows(ways(*story, again))[-1]
    assert (last.seq, last.ack) == (1, 42)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20))
def test_any_numbers_can_be_told(seqs: list[int]) -> None:
    """At each stage of what has been learnt, a segment has numbers, and they are no further than
    half the circle.
    """
    numbering = Numbering()
    for at, seq in enumerate(seqs):
        segment = made(FLOW, seq, seq, "S" if at % 3 == 0 else "A", at)
        numbering.learn(FLOW, segment)
        own, peer = numbering.relative(FLOW, segment)
        assert abs(own) <= 2**31 and abs(peer or 0) <= 2**31


def test_the_next_segment_is_what_an_end_could_send() -> None:
    """Neither what has been injected in its name nor a copy that has been released moves it, in
    number or in timestamp.
    """
    sent = made(FLOW, 1001, 5001, "PA", 4, tsval=70)
    injected = made(FLOW, 1105, 5001, "PA", 4, tsval=70)
    copy = made(FLOW, 1001, 5001, "PA", 4, tsval=20)
    by_lab = [(injected, "injected by the lab"), (copy, "copy of the packet from t=0.001 s, released at t=2.000 s")]
    story = [*connection(1000, 5000, 0)[:3], (sent, ""), *by_lab]
    following = next_segment(FLOW, ways(*story))
    assert following is not None
    assert (following.seq, following.ack, following.timestamp, following.flags, following.length) == (
        1005,
        5001,
        (70, 0),
        "A",
        0,
    )
    assert next_segment(Flow("10.0.1.9", 1, "10.2.1.1", 80), ways(*story)) is None


@given(st.integers(0, 2**32 - 1), st.integers(1, 1000))
def test_a_repetition_does_not_set_an_end_back(first: int, length: int) -> None:
    """What is sent again leaves the next number where it was; a FIN takes one; a new SYN begins
    anew.
    """
    data = (made(FLOW, first + 1, 1, "PA", length), "")
    fin = (made(FLOW, first + 1 + length, 1, "FA"), "")
    syn = (made(FLOW, first, flags="S"), "")
    numbers = [
        next_segment(FLOW, ways(*story))
        for story in ([syn, data, fin, data], [syn, data, fin, (made(FLOW, first - 9, flags="S"), "")])
    ]
    assert [segment and segment.seq for segment in numbers] == [advance(first, length + 2), advance(first, -8)]
