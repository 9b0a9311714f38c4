"""Follows the states of sockets that a capture and the evidence prove. Pure.

RFC 9293 section 3.3.2, figure 5, followed from what was seen to arrive. The wire shows when
TIME-WAIT began. The arm's setting says when it ended, unless the TIME_WAIT tables taken at each
step say otherwise: then it is the RST in between, or the later of the two. The last state is that
of the kernel's table at the end. It also has what the wire does not show, such as a connect that
was given up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from twlab.report.ladder.transits import Transit
from twlab.results import connect_facts
from twlab.results.packet_comments import MADE_BY_LAB
from twlab.results.result import ArmResult
from twlab.segment import Flow, distance

_SAME_S = 0.01
# The kernel's names (twlab.linux.inet_diag), and RFC 9293's.
_NAMES = {
    "ESTABLISHED": "ESTABLISHED",
    "SYN_SENT": "SYN-SENT",
    "SYN_RECV": "SYN-RECEIVED",
    "FIN_WAIT1": "FIN-WAIT-1",
    "FIN_WAIT2": "FIN-WAIT-2",
    "TIME_WAIT": "TIME-WAIT",
    "CLOSE": "",
    "CLOSE_WAIT": "CLOSE-WAIT",
    "LAST_ACK": "LAST-ACK",
    "LISTEN": "LISTEN",
    "CLOSING": "CLOSING",
}
# With more connections, states would hide the segments, and the listed tables lack some of them.
MOST_FLOWS = 20


@dataclass(frozen=True, slots=True)
class State:
    """A change of state: from `at_s` on, the socket of `node` is in `state`.

    Attributes:
        flow: the socket's four-tuple.
        state: empty: the socket is gone.
        after: number of the arrow that brought it about, counted from 1; 0 without one.
        left_s: how long TIME-WAIT will last, in seconds, if nothing ends it before.
        among_others: the ladder shows several connections, so the client's port has to be named.
    """

    at_s: float
    node: str
    flow: Flow
    state: str
    after: int
    left_s: float | None = None
    among_others: bool = False

    def words(self) -> str:
        """Return ``TIME-WAIT 60 s``; ``(gone)``; among others ``:40001 ESTABLISHED``."""
        port = f":{max(self.flow.source_port, self.flow.destination_port)} " if self.among_others else ""
        return port + (self.state or "(gone)") + (f" {self.left_s:g} s" if self.left_s is not None else "")


@dataclass(slots=True)
class _Endpoint:
    """One end of a connection as it is known so far."""

    node: str
    flow: Flow
    state: str = ""
    fin_end: int | None = None
    peer_fin_end: int | None = None
    unshown: State | None = None  # holds unless the next segment that it sends says more


def follow(crossed: Sequence[Transit], arm: ArmResult) -> list[State]:
    """Return the changes of state, in the order of time.

    None of them when there are more than `MOST_FLOWS` connections.
    """
    if (
        len({transit.sightings[-1].segment.flow for transit in crossed if transit.sightings[-1].segment.flags == "S"})
        > MOST_FLOWS
    ):
        return []
    # In the order of the capture, in which what brings something about stands before it, also where
    # the clock stands still.
    events = [(transit.sightings[0].number, False, number) for number, transit in enumerate(crossed, 1)]
    events += [
        (transit.sightings[-1].number, True, number) for number, transit in enumerate(crossed, 1) if not transit.lost
    ]
    ends: dict[Flow, _Endpoint] = {}
    found: list[State] = []
    for _, arrives, number in sorted(events):
        transit = crossed[number - 1]
        if any(sighting.marks & MADE_BY_LAB for sighting in transit.sightings):
            continue
        found += (_arrived if arrives else _sent)(number, transit, ends, arm)
    found += list(_endings(found, crossed, arm))
    found += list(_last_look(found, arm))
    several = len({frozenset((state.flow, state.flow.reversed())) for state in found}) > 1
    return [replace(state, among_others=several) for state in sorted(found, key=lambda state: state.at_s)]


def _sent(number: int, transit: Transit, ends: dict[Flow, _Endpoint], arm: ArmResult) -> Iterator[State]:
    first = transit.sightings[0].segment
    end = ends.setdefault(
        first.flow, _Endpoint(transit.nodes[0], first.flow)
    )  # each end by the four-tuple that it knows: a gateway may stand between
    if "R" in first.flags:
        if end.state not in ("", "TIME-WAIT"):
            yield _changed(end, "", first.at_s, number, arm)
        return
    if "A" in first.flags and end.peer_fin_end is not None and distance(end.peer_fin_end, first.ack) >= 0:
        # Only its acknowledgement shows that the peer's FIN was in order: it may have overtaken
        # data.
        if taken := {"ESTABLISHED": "CLOSE-WAIT", "FIN-WAIT-1": "CLOSING", "FIN-WAIT-2": "TIME-WAIT"}.get(end.state):
            yield _changed(end, taken, first.at_s, number, arm)
    elif end.unshown:
        yield end.unshown
    end.unshown = None
    if "F" in first.flags:
        end.fin_end = first.end_seq
    sent = {"S": "SYN-SENT", "SA": "SYN-RECEIVED"}.get(first.flags, "")
    if "F" in first.flags:
        sent = {"ESTABLISHED": "FIN-WAIT-1", "CLOSE-WAIT": "LAST-ACK"}.get(end.state, "")
    if sent and end.state != sent:
        yield _changed(end, sent, first.at_s, number, arm)


def _arrived(number: int, transit: Transit, ends: dict[Flow, _Endpoint], arm: ArmResult) -> Iterator[State]:
    segment = transit.sightings[-1].segment
    flow = segment.flow.reversed()
    end = ends.setdefault(flow, _Endpoint(transit.nodes[-1], flow))
    if "F" in segment.flags:
        end.peer_fin_end = segment.end_seq
    elif "S" in segment.flags:
        end.peer_fin_end = None
    after = _arrival(segment.flags, end, segment.ack)
    if after is not None and after != end.state:
        state = _changed(end, after, segment.at_s, number, arm)
        if after == "FIN-WAIT-2" and "F" in segment.flags:
            end.unshown = state
        else:
            yield state


def _changed(end: _Endpoint, state: str, at_s: float, number: int, arm: ArmResult) -> State:
    end.state = state
    settings = arm.settings.get(end.node, {})
    known = state == "TIME-WAIT" and not settings.get(
        "tw_recycle"
    )  # which makes it 3.5 times the retransmission timeout, if timestamps are used
    left_s = settings.get("time_wait_s", 60.0) if known else None
    return State(at_s, end.node, end.flow, state, number, left_s)


def _arrival(flags: str, end: _Endpoint, ack: int) -> str | None:
    """Return the state after a segment arrived; None if it shows no change."""
    state = end.state
    if "R" in flags:
        return None if state == "TIME-WAIT" else ""
    if flags == "SA" and state == "SYN-SENT":
        return "ESTABLISHED"
    if "A" in flags and "S" not in flags and state == "SYN-RECEIVED":
        state = "ESTABLISHED"
    if "A" in flags and end.fin_end is not None and distance(end.fin_end, ack) >= 0:
        state = {"FIN-WAIT-1": "FIN-WAIT-2", "LAST-ACK": "", "CLOSING": "TIME-WAIT"}.get(state, state)
    return state


def _endings(found: list[State], crossed: Sequence[Transit], arm: ArmResult) -> Iterator[State]:
    """Yield the end of each TIME-WAIT that was over before the arm was."""
    looks = sorted({entry["at_s"] for entry in arm.transcript if entry["kind"] == "step"} | {arm.virtual_s})
    for began in (state for state in found if state.state == "TIME-WAIT"):
        ends = _ends(began.flow)
        listed = [
            sample["at_s"] for sample in arm.time_wait
            if sample["node"] == began.node and sample["at_s"] >= began.at_s - 0.01
            and (sample["count"] > len(sample["sockets"]) or any({**one, **ends} == one for one in sample["sockets"]))
        ]  # fmt: skip
        next_s = min(
            (state.at_s for state in found if state.flow == began.flow and state.at_s > began.at_s),
            default=float("inf"),
        )
        seen_s = max((at_s for at_s in listed if at_s < next_s), default=began.at_s)
        gone_s = min(min((at_s for at_s in looks if at_s > seen_s + 0.05), default=float("inf")), next_s)
        if gone_s == float("inf"):
            continue
        over_s = _fewer_at_s(began, arm, gone_s) if began.left_s is None else began.at_s + began.left_s
        if not seen_s <= over_s <= gone_s:
            resets = [transit.sightings[-1].segment for transit in crossed if transit.nodes[-1] == began.node]
            over_s = next(
                (
                    s.at_s
                    for s in resets
                    if "R" in s.flags and seen_s <= s.at_s <= gone_s and s.flow == began.flow.reversed()
                ),
                gone_s,
            )
        if over_s != next_s:  # a SYN that takes its place shows in the state that it brings about
            yield State(over_s, began.node, began.flow, "", 0)


def _ends(flow: Flow) -> dict[str, str]:
    """Return both ends as the evidence writes them."""
    return {"local": f"{flow.source}:{flow.source_port}", "remote": f"{flow.destination}:{flow.destination_port}"}


def _last_look(found: list[State], arm: ArmResult) -> Iterator[State]:
    """Yield a change where the kernel's last table differs from the state so far."""
    last = {(state.node, state.flow): state for state in sorted(found, key=lambda state: state.at_s)}
    for (node, flow), state in last.items():
        if node not in arm.left:
            continue
        ends = _ends(flow)
        kernel = next((_NAMES[one["state"]] for one in arm.left[node] if {**one, **ends} == one), "")
        if kernel != state.state:
            at_s = _given_up_s(state, arm) if (state.state, kernel) == ("SYN-SENT", "") else arm.virtual_s
            yield State(at_s, node, flow, kernel, 0)


def _given_up_s(state: State, arm: ArmResult) -> float:
    """Return when the connect that sent a SYN was over without an answer.

    The transcript has how long it took.
    """
    for entry in arm.transcript:
        fact = connect_facts.read(entry) if entry.get("node") == state.node else None
        if fact and fact.took_s is not None and entry["at_s"] - fact.took_s - _SAME_S <= state.at_s <= entry["at_s"]:
            return float(entry["at_s"])
    return arm.virtual_s


def _fewer_at_s(began: State, arm: ArmResult, at_most_s: float) -> float:
    """Return when a node was first seen to have fewer sockets in TIME-WAIT.

    For a TIME-WAIT of unknown length.
    """
    rows = [row for row in arm.sockets.get(began.node, []) if began.at_s < row[0] <= at_most_s]
    return next((float(later[0]) for one, later in pairwise(rows) if later[2] < one[2]), at_most_s)
