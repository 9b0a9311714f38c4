"""What must hold of every capture and every ladder: causes stand before effects, and the end is
what the kernel's tables have.
"""

from collections import defaultdict

from twlab.report.ladder.states import follow
from twlab.report.ladder.transits import transits
from twlab.results.pcapng_reading import read_capture
from twlab.results.result import ArmResult
from twlab.segment import distance

# The states of a ladder by the kernel's names for them.
STATES = {
    "ESTABLISHED": "ESTABLISHED", "SYN_SENT": "SYN-SENT", "SYN_RECV": "SYN-RECEIVED", "FIN_WAIT1": "FIN-WAIT-1", "FIN_WAIT2": "FIN-WAIT-2",
    "TIME_WAIT": "TIME-WAIT", "CLOSE": "", "CLOSE_WAIT": "CLOSE-WAIT", "LAST_ACK": "LAST-ACK", "CLOSING": "CLOSING",
}  # fmt: skip


def out_of_order(sightings, nodes):
    """Sightings, by number, that stand before what they follow from: an arrival before the
    departure, an ACK before what it acknowledges.
    """
    interfaces = {sighting.interface for sighting in sightings}
    sent, highest, wrong = defaultdict(int), {}, []
    for sighting in sightings:
        segment, here = sighting.segment, sighting.interface
        other = next((f"{b}-{a}" for a in nodes for b in nodes if here == f"{a}-{b}"), "")
        key = (segment.seq, segment.ack, segment.flags, segment.length, sighting.ip_id)
        if sighting.outbound:
            sent[(here, key)] += 1
        elif other in interfaces:
            sent[(other, key)] -= 1
            if sent[(other, key)] < 0:
                wrong.append(f"#{sighting.number} arrives before it is sent")
        by_lab = "injected" in sighting.comment or "copy of" in sighting.comment or "sent by" in sighting.comment
        seen = highest.get((here, segment.flow.reversed()))
        if (
            "A" in segment.flags
            and "R" not in segment.flags
            and seen is not None
            and distance(seen, segment.ack) > 0
            and not by_lab
        ):
            wrong.append(f"#{sighting.number} acknowledges what has not been sent")
        before = highest.get((here, segment.flow))
        if before is None or "S" in segment.flags or distance(before, segment.end_seq) > 0:
            highest[here, segment.flow] = segment.end_seq
    return wrong


def ends_otherwise(ways, arm: ArmResult):
    """Ends of connections whose last state in the ladder is not what the kernel's table had at the
    end.
    """
    last = {}
    for state in follow(ways, arm):
        last[state.node, state.flow] = state.state
    wrong = []
    for (node, flow), state in last.items():
        if node not in arm.left:
            continue
        ends = {"local": f"{flow.source}:{flow.source_port}", "remote": f"{flow.destination}:{flow.destination_port}"}
        kernel = next((STATES[entry["state"]] for entry in arm.left[node] if {**entry, **ends} == entry), "")
        if kernel != state:
            wrong.append(
                f"{node} {ends['local']} > {ends['remote']}: {state or '(gone)'} in the ladder, {kernel or '(gone)'} in the kernel"
            )
    return wrong


def faults(path, arm: ArmResult):
    """All of both kinds, for one arm and its capture."""
    sightings = read_capture(path)
    return out_of_order(sightings, list(arm.settings)) + ends_otherwise(transits(sightings, arm.settings), arm)
