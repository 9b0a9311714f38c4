"""Rearm: what starts the 60 s of TIME_WAIT anew."""

from collections.abc import Callable

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.segment import Segment, match
from twlab.wire.wire import Wire

REQUEST = b"a request of 24 bytes..."

# What arrives, made from the server's last segments: its data, and its FIN.
ARRIVALS: dict[str, Callable[[Wire, Segment, Segment], Segment]] = {
    "data again": lambda wire, data, fin: data,
    "FIN again": lambda wire, data, fin: fin,
    "old ACK": lambda wire, data, fin: wire.craft(like=data, flags="A", payload=b""),
    "bare ACK": lambda wire, data, fin: wire.craft(like=fin, flags="A", seq=fin.end_seq),
    "older clock": lambda wire, data, fin: wire.craft(
        like=fin, flags="S", seq=fin.end_seq + 1, timestamp=((data.timestamp or (1, 0))[0] - 1, 0)
    ),
    "SYN": lambda wire, data, fin: wire.craft(like=fin, flags="S", seq=fin.seq, timestamp=None),
    "data without ACK": lambda wire, data, fin: wire.craft(like=data, flags="P", timestamp=None),
    "RST beside": lambda wire, data, fin: wire.craft(like=fin, flags="R", seq=fin.end_seq + 1),
    "RST": lambda wire, data, fin: wire.craft(like=fin, flags="R", seq=fin.end_seq),
}

AS_EVER = Settings()


def arm(
    arrives: str, *, restarted: bool, answers: int, family: int = 4, alive: bool = True, settings: Settings = AS_EVER
) -> Arm:
    """An arm in which that arrives, with what it is predicted to do."""
    given = {"arrives": arrives} | ({"family": 6} if family == 6 else {})
    return Arm(settings, given=given, expect=Observation(alive=alive, restarted=restarted, answers=answers))


@scenario(
    topology="pair",
    base=Settings(time_wait_s=60),
    control=Arm(AS_EVER, expect=Observation(alive=True, restarted=False, answers=0)),
    treatment={
        "data-again": arm("data again", restarted=True, answers=1),
        "data-again-ipv6": arm("data again", restarted=True, answers=1, family=6),
        "fin-again": arm("FIN again", restarted=True, answers=1),
        "old-ack": arm("old ACK", restarted=True, answers=1),
        "bare-ack": arm("bare ACK", restarted=True, answers=0),
        "syn-with-older-clock": arm("older clock", restarted=True, answers=1),
    },
    remedies={
        "syn": arm("SYN", restarted=False, answers=1),
        "data-without-ack": arm("data without ACK", restarted=False, answers=1),
        "rst-beside": arm("RST beside", restarted=False, answers=0),
        "rst": arm("RST", restarted=False, answers=0, alive=False),
        "rst-rfc1337": arm("RST", restarted=False, answers=0, settings=Settings(rfc1337=True)),
    },
    reads="RFC 9293 section 3.10.7.4 (TIME-WAIT: only a repeated FIN restarts the 2 MSL); RFC 1337 section 1; "
    "Linux net/ipv4/tcp_minisocks.c (tcp_timewait_state_process)",
)
def rearm(lab: Lab, *, arrives: str = "", family: int = 4) -> Observation:
    """Any old segment with an ACK that reaches a TIME_WAIT, not only the FIN, starts its 60 s anew;
    so 60 s is the least, not the most.

    RFC 9293 restarts the time for a repeated FIN: its sender may not have had the last ACK, and
    will need it for 60 s more. Linux restarts it for old data and old ACKs too, for a bare ACK with
    exactly the next sequence number, which is not even answered, and for a SYN that PAWS rejects,
    because its clock is older. A peer, a prober or a NAT that goes on sending keeps a four-tuple in
    TIME_WAIT for good.

    It does not restart for a SYN with a lower sequence number, which might be a good new
    connection, nor for anything else without ACK flag, unless a timestamp shows that it is old; nor
    for a RST, which is ignored beside the next sequence number and ends TIME_WAIT on it, unless
    tcp_rfc1337 says no.

    The peer's data and FIN are the genuine ones, copied; the rest is crafted, because no Linux peer
    sends it at will. Answers of TIME_WAIT are not let through to the server, whose RST would end it
    (that is `assassination`).
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    listener = server.listen(80, family=family)
    from_server = match(source=server.address(family))

    lab.step(
        "The server sends a little; the client closes, then the server. The wire keeps copies of the server's "
        "data and FIN."
    )
    data, fin = wire.copy(from_server & match(payload=True)), wire.copy(from_server & match(having="F"))
    connection = client.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept()
    lab.transfer(peer, connection, len(REQUEST), REQUEST)
    lab.sleep(0.01)  # the FIN's timestamp is a later one than the data's
    lab.close(connection, peer)

    lab.step(f"A second later{': ' + arrives if arrives else ', nothing has happened'}.")
    lab.sleep(1)
    before_s = left_s(lab)
    answers = wire.drop(match(source=client.address(family)))
    if arrives:
        wire.inject(ARRIVALS[arrives](wire, data.segments[0], fin.segments[0]))
    lab.sleep(0.05)
    after_s = left_s(lab)
    return Observation(
        alive=after_s > 0,
        restarted=after_s > before_s,
        answers=len(answers.segments),
        before_s=before_s,
        after_s=after_s,
    )


def left_s(lab: Lab) -> float:
    """Return the seconds left of the client's TIME_WAIT; 0 if it has ended."""
    return max((entry.remaining_s for entry in lab.time_wait("client")), default=0.0)
