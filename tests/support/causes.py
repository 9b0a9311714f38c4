"""What must hold of every capture and every ladder: causes stand before effects, and the end is
what the kernel's tables have.
"""

import math
from collections import defaultdict
from dataclasses import replace

from twlab.report.ladder.states import follow
from twlab.report.ladder.transits import transits
from twlab.results.pcapng import read_capture
from twlab.results.result import ArmResult
from twlab.segment import distance

# The states of a ladder by the kernel's names for them.
STATES = {
    "ESTABLISHED": "ESTABLISHED",
    "SYN_SENT": "SYN-SENT",
    "SYN_RECV": "SYN-RECEIVED",
    "FIN_WAIT1": "FIN-WAIT-1",
    "FIN_WAIT2": "FIN-WAIT-2",
    "TIME_WAIT": "TIME-WAIT",
    "CLOSE": "",
    "CLOSE_WAIT": "CLOSE-WAIT",
    "LAST_ACK": "LAST-ACK",
    "CLOSING": "CLOSING",
}


def out_of_order(sightings, nodes, genuine_until_s=math.inf):
    """Sightings, by number, that stand before what they follow from: an arrival before the
    departure, an ACK before what it acknowledges.

    Acknowledgements are looked at until the lab first sends a segment in a host's name, and until
    `genuine_until_s` (s of the arm): such a segment may be answered for.
    """
    interfaces = {sighting.interface for sighting in sightings}
    others = {f"{a}-{b}": f"{b}-{a}" for a in nodes for b in nodes}
    sent, highest, wrong, genuine = defaultdict(int), defaultdict(list), [], True
    balanced = "balancer" in nodes
    for sighting in sightings:
        segment, here = sighting.segment, sighting.interface
        key = (segment.seq, segment.ack, segment.flags, segment.length, sighting.ip_id)
        if sighting.outbound:
            sent[(here, key)] += 1
        elif others.get(here) in interfaces:
            sent[(others[here], key)] -= 1
            if sent[(others[here], key)] < 0:
                wrong.append(f"#{sighting.number} arrives before it is sent")
        if not here.startswith("wire"):
            continue  # a gateway gives the answer to one client's segments to the next that has the port
        genuine = (
            genuine
            and segment.at_s < genuine_until_s
            and not any(word in sighting.comment for word in ("injected", "copy of", "sent by", "impaired"))
        )
        # Of each connection of the four-tuple: an old one may still be answered for.
        seen = highest[here, segment.flow.reversed()]
        if balanced:
            seen = [end for key, ends in highest.items() if _may_be_answered(key, here, segment) for end in ends]
        if (
            genuine
            and "A" in segment.flags
            and "R" not in segment.flags
            and seen
            and all(distance(end, segment.ack) > 0 for end in seen)
        ):
            wrong.append(f"#{sighting.number} acknowledges what has not been sent")
        ends = highest[here, segment.flow]
        if not ends or "S" in segment.flags:
            ends.append(segment.end_seq)
        elif distance(ends[-1], segment.end_seq) > 0:
            ends[-1] = segment.end_seq
    return wrong


def _may_be_answered(key, here, segment):
    """Whether `segment` may answer for the connection: a balancer puts a server's answer to one
    connection into that of the same port to the virtual address.
    """
    there, flow = key
    back = segment.flow.reversed()
    return there == here and (flow.source, flow.source_port) == (back.source, back.source_port)


def _kernel(ends, arm):
    for node, flow in ends:
        both = {"local": f"{flow.source}:{flow.source_port}", "remote": f"{flow.destination}:{flow.destination_port}"}
        there = arm.left.get(node)
        found = (
            None
            if there is None
            else next((STATES[entry["state"]] for entry in there if {**entry, **both} == entry), "")
        )
        yield (node, f"{both['local']} > {both['remote']}"), found


def faults(path, arm: ArmResult, strict=True):
    """All of both kinds, for one arm and its capture; `strict`: by what crossed alone, without the
    kernel's table.
    """
    sightings = read_capture(path)
    # What is injected behind a node that is not captured bears its comment nowhere.
    made_s = [entry["at_s"] for entry in arm.transcript if entry["text"].startswith("injects")]
    wrong = out_of_order(sightings, list(arm.settings), min(made_s, default=math.inf))
    ways = transits(sightings, arm.settings)
    seen = replace(arm, left={}) if strict else arm
    last = {(state.node, state.flow): state.state for state in follow(ways, seen)}
    for ((node, ends), kernel), state in zip(_kernel(last, arm), last.values(), strict=True):
        if kernel not in (None, state):
            wrong.append(f"{node} {ends}: {state or '(gone)'} in the ladder, {kernel or '(gone)'} in the kernel")
    return wrong
