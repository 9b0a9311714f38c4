"""Impaired segments: nothing is lost unless dropped or taken, nothing arrives before its time,
and order changes only where asked for.
"""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from twlab.segment import Flow, match
from twlab.wire.craft import craft
from twlab.wire.impairments import Delay, Drop, Duplicate, Reorder, Selected, chain, passing, taking

FLOW = Flow("10.0.1.1", 40_000, "10.2.1.1", 80)
SEGMENTS = [craft(flow=FLOW, flags="A", seq=number, payload=bytes([number])) for number in range(30)]
FOREIGN = craft(flow=FLOW.reversed(), flags="A")
SECONDS = st.floats(0, 100)
COUNT = st.integers(0, len(SEGMENTS))


def arrivals(impairment, segments, gap_s=0.01):
    """(time, sequence number) of what arrives, in order, when the segments come `gap_s` apart."""
    releases = [release for number, segment in enumerate(segments) for release in impairment(segment, number * gap_s)]
    return [(release.at_s, release.segment.seq) for release in sorted(releases, key=lambda release: release.at_s)]


def order(impairment, segments=SEGMENTS):
    """Sequence numbers in the order of arrival."""
    return [seq for _, seq in arrivals(impairment, segments)]


@given(SECONDS)
def test_delay_keeps_order_and_loses_nothing(delay_s):
    """Every segment arrives exactly the delay later, in its order."""
    assert arrivals(Delay(delay_s), SEGMENTS) == [(number * 0.01 + delay_s, number) for number in range(30)]


@given(SECONDS, SECONDS, st.integers())
def test_jitter_stays_within_its_bounds(delay_s, jitter_s, seed):
    """With jitter each segment arrives between the delay and the delay plus the jitter; none is
    lost, and a seed repeats it.
    """
    late = arrivals(Delay(delay_s, jitter_s, Random(seed)), SEGMENTS)
    assert sorted(seq for _, seq in late) == list(range(30))
    assert all(-1e-9 <= at_s - seq * 0.01 - delay_s <= jitter_s + 1e-9 for at_s, seq in late)
    assert late == arrivals(Delay(delay_s, jitter_s, Random(seed)), SEGMENTS)


@given(SECONDS)
def test_duplicates_arrive_twice(after_s):
    """Each segment passes at once and comes again after the time given."""
    assert Duplicate(after_s)(SEGMENTS[3], 7.0) == [(7.0, SEGMENTS[3]), (7.0 + after_s, SEGMENTS[3])]


@given(st.floats(0, 1), st.integers())
def test_losses_are_a_subsequence(probability, seed):
    """What Drop lets through keeps its order; a probability of 1 lets nothing through, 0
    everything.
    """
    left = order(Drop(probability, Random(seed)))
    assert left == sorted(left)
    assert order(Drop()) == []
    assert order(Drop(0.0)) == list(range(30))


@given(st.integers(1, 28), st.integers(0, 28))
def test_reorder_puts_one_behind_others(behind, first):
    """The segment arrives right after `behind` later ones of its flow; the others keep their order
    and nothing is lost.
    """
    seen = order(Reorder(match(seq=first), behind))
    expected = [seq for seq in range(30) if seq != first]
    if first + behind < 30:
        expected.insert(first + behind, first)
    assert seen == expected


def test_only_its_own_flow_overtakes():
    """Segments of other flows pass a late one and do not count."""
    reorder = Reorder(match(seq=0))
    assert [len(reorder(segment, 0.0)) for segment in (SEGMENTS[0], FOREIGN, FOREIGN, SEGMENTS[1])] == [0, 1, 1, 2]


@given(st.integers(1, 5))
def test_reorder_as_often_as_asked(count):
    """It happens `count` times, one after the other, and is then exhausted."""
    reorder = Reorder(match(), behind=1, count=count)
    expected = [
        seq for pair in range(15) for seq in ((2 * pair + 1, 2 * pair) if pair < count else (2 * pair, 2 * pair + 1))
    ]
    assert order(reorder) == expected
    assert reorder.exhausted


@given(st.one_of(st.none(), COUNT))
def test_selected_takes_so_many(count):
    """The first `count` matching segments are taken and kept, in order; the rest pass untouched."""
    hold = Selected(match(), taking, count)
    passed = order(hold)
    taken = [segment.seq for segment in hold.segments]
    assert taken + passed == list(range(30))
    assert len(taken) == (30 if count is None else count)
    assert hold.exhausted == (count is not None)


def test_copies_pass():
    """With `passing`, segments are kept and arrive as well."""
    copy = Selected(match(seq=(5, 9)), passing, 3)
    assert order(copy) == list(range(30))
    assert [segment.seq for segment in copy.segments] == [5, 6, 7]


@given(SECONDS, SECONDS)
def test_a_chain_adds_up(first_s, second_s):
    """In a chain each impairment sees what the one before it releases, when it does."""
    joined = chain(Duplicate(first_s), Delay(second_s))
    assert joined(SEGMENTS[0], 0.0) == [(second_s, SEGMENTS[0]), (first_s + second_s, SEGMENTS[0])]
    assert chain(Drop(), Duplicate(1.0))(SEGMENTS[0], 0.0) == []
    assert chain()(SEGMENTS[0], 2.0) == passing(SEGMENTS[0], 2.0)
