"""What several nodes have seen, in one order: by time; where the clock stands still by cause; and
each node's own order stands.
"""

from hypothesis import given
from hypothesis import strategies as st

from twlab.wire.merging import Sighted, merged

# A row of watched nodes 0, 1, ..., a link between each two. A packet crosses from one end to the
# other, node by node.
JOURNEYS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 3), st.integers(0, 5)), max_size=30
)  # direction, name, time since the one before


def crossing(
    journeys: list[tuple[bool, int, int]], count: int, overlap: list[int]
) -> tuple[list[list[Sighted]], list[tuple[int, int]]]:
    """What the nodes see of the journeys, and the true order; journeys of one time may overlap:
    `overlap` says which goes on next.
    """
    under_way: list[list[tuple[int, Sighted]]] = []
    at_ns, seen, order = 0, [[] for _ in range(count)], []

    def step(which: int) -> None:
        node, sighting = under_way[which].pop(0)
        order.append((node, len(seen[node])))
        seen[node].append(sighting._replace(at_ns=at_ns))
        if not under_way[which]:
            del under_way[which]

    turns = iter(overlap)
    for forward, name, later in journeys:
        if later:
            while under_way:
                step(0)
        at_ns += later
        way = range(count) if forward else range(count - 1, -1, -1)
        by = 1 if forward else -1
        places = [(min(node, node + side), max(node, node + side)) for node in way for side in (-by, by)]
        stops = [(node, Sighted(0, sent, place, (forward, name))) for (node, sent), place in
                 zip([(node, sent) for node in way for sent in (False, True)], places, strict=True)]  # fmt: skip
        under_way.append(stops)
        for _ in range(next(turns, 0)):
            # First come, first served on one link and one direction: the kernel keeps the order of
            # a queue.
            step(0)
            if not under_way:
                break
    while under_way:
        step(0)
    return seen, order


@given(JOURNEYS, st.integers(1, 4), st.lists(st.integers(0, 9), max_size=30))
def test_nothing_arrives_before_it_is_sent(
    journeys: list[tuple[bool, int, int]], count: int, overlap: list[int]
) -> None:
    """Every sighting stands once, in order of time, each node's in its own order, and every arrival
    behind its departure.
    """
    seen, _ = crossing(journeys, count, overlap)
    found = merged(seen)
    assert sorted(found) == [(node, index) for node, each in enumerate(seen) for index in range(len(each))]
    for node in range(count):
        assert [index for at, index in found if at == node] == list(range(len(seen[node])))
    rows = [(node, seen[node][index]) for node, index in found]
    assert [row.at_ns for _, row in rows] == sorted(row.at_ns for _, row in rows)
    sent: dict[object, int] = {}
    for node, row in rows:
        inner = row.place[0] >= 0 and row.place[1] < count  # type: ignore[index]
        key = (row.place, row.packet)
        if row.sent:
            sent[key] = sent.get(key, 0) + 1
        elif inner:
            sent[key] = sent.get(key, 0) - 1
            assert sent[key] >= 0, f"{node} has it before it was sent"


@given(JOURNEYS, st.integers(1, 4))
def test_one_after_the_other_is_found_again(journeys: list[tuple[bool, int, int]], count: int) -> None:
    """Where one packet has crossed before the next sets out, and each way back begins where the way
    there has ended, the order is the true one.
    """
    there_and_back = [(at % 2 == 0, name, later) for at, (_, name, later) in enumerate(journeys)]
    seen, order = crossing(there_and_back, count, [2 * count] * len(journeys))
    assert merged(seen) == order


def test_a_circle_of_causes_is_no_trap() -> None:
    """Rings that contradict each other are merged all the same, whole."""
    a = [Sighted(0, False, "x", 1), Sighted(0, True, "x", 2)]
    b = [Sighted(0, False, "x", 2), Sighted(0, True, "x", 1)]
    assert sorted(merged([a, b])) == [(0, 0), (0, 1), (1, 0), (1, 1)]
