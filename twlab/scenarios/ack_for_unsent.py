"""An acknowledgement for what was never sent: RFC 1337's hazard H2."""

from twlab import Arm, Lab, Observation, Settings, at_most, scenario
from twlab.segment import distance, match

STALE = 400  # bytes of the old segment
FEW = 200  # bytes that the client sends then: fewer than the server has acknowledged
PLACED = {"placed": True}
CLEAN = Observation(reopened=True, acked_unsent=0, left_bytes=0, foreign_bytes=0, read=1000)
# Newer kernels (seen on 6.18, not on 6.12) answer by a challenge ACK, one in tcp_invalid_ratelimit:
# hence 3 segments, or 1.
NO_STORM = Observation(reopened=True, acked_unsent=STALE, crossing=at_most(6), stuck_crossing=at_most(30))
STUCK = Observation(**NO_STORM, stuck_bytes=FEW, left_bytes=1000, read=STALE, foreign_bytes=STALE, errors="")


@scenario(
    topology="pair",
    base=Settings(timestamps=0),
    control=Arm(Settings(time_wait_s=60), given=PLACED, expect=Observation(reopened=False, refused_by="EADDRNOTAVAIL")),
    treatment={
        "cut-short": Arm(Settings(time_wait_s=1), given=PLACED, expect=STUCK),
        "ipv6": Arm(Settings(time_wait_s=1), given={**PLACED, "family": 6}, expect=STUCK),
    },
    remedies={
        "more-at-once": Arm(
            Settings(time_wait_s=1),
            given={**PLACED, "waits": False},
            expect=Observation(**NO_STORM, left_bytes=0, read=1000, foreign_bytes=STALE),
        ),
        "timestamps": Arm(
            Settings(time_wait_s=1, timestamps=1), given=PLACED, expect=Observation(paws_drops=1, **CLEAN)
        ),
        "as-it-comes": Arm(Settings(time_wait_s=1), expect=Observation(paws_drops=0, **CLEAN)),
    },
    reads="RFC 1337 section 2.3, hazard H2; RFC 9293 section 3.10.7.4 (SEG.ACK > SND.NXT); RFC 5961 section 5.2; "
    "Linux net/ipv4/tcp_input.c (tcp_ack: TCP_ACK_UNSENT_DATA)",
)
def ack_for_unsent(lab: Lab, *, placed: bool = False, waits: bool = True, family: int = 4) -> Observation:
    """Stale data make the server acknowledge what the client never sent, and a client that has less
    than that to say is stuck for good.

    RFC 1337 predicts a storm: the client answers an acknowledgement of unsent data by one of its
    own, which the server finds too low and answers, for ever. Linux has no storm: the
    acknowledgement is dropped, without an answer or with a rate-limited one. But it is dropped
    whole. A client that has sent less than was acknowledged, a short request say, never learns that
    it has arrived, and repeats it, at longer and longer intervals, for a quarter of an hour until
    ETIMEDOUT; each repetition is answered, in vain. More data do not help any more: after the first
    timeout the congestion window is one segment, and that is the one repeated. Only if the rest is
    sent at once (arm `more-at-once`) do the numbers meet again before the first timeout, and the
    connection goes on without an error, with the stale bytes in place of the client's.

    The late segment is the wire's genuine copy, put at the very place where the server goes on
    reading (scenario `stale-data` shows when that happens by itself, and how likely it is by
    chance). As it comes it does not fit, and is dropped.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    listener = server.listen(80, family=family)

    lab.step("A short connection; the wire keeps a copy of the client's data.")
    old = client.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept()
    copies = wire.copy(match(source=client.address(family), payload=True))
    lab.transfer(old, peer, STALE)
    lab.sleep(0.1)
    lab.close(old, peer)

    lab.step(
        "Two seconds later the client opens the same four-tuple again. The old segment arrives where the new "
        "stream begins."
    )
    lab.sleep(2)
    again = lab.reopen(old, listener)
    if again.error:
        return Observation(reopened=False, refused_by=again.error)
    new, peer = again.new, again.peer
    lab.sleep(0.1)
    stale = copies.segments[0]
    crossing = wire.watch()
    wire.inject(wire.craft(like=stale, seq=again.syn.end_seq, ack=again.syn_ack.end_seq) if placed else stale)
    lab.sleep(0.5)
    acks = [segment for segment in crossing.segments if segment.source == server.address(family)]
    lab.require(acks, "the server has answered it")
    crossed = len(crossing.segments)

    lab.step(f"The client sends 200 bytes{', and waits a second' if waits else ''}.")
    new.send(b"n" * FEW)
    lab.sleep(1 if waits else 0)
    stuck = lab.sockets("client", "ESTABLISHED")[0].send_queue
    stuck_crossing = len(crossing.segments) - crossed

    lab.step("The client sends 800 bytes more; the server's application reads.")
    new.send(b"n" * 800)
    read = peer.receive(1000, timeout_s=2)
    lab.wait_until(lambda: lab.sockets("client", "ESTABLISHED")[0].send_queue == 0, timeout_s=0.5)
    return Observation(
        reopened=True,
        acked_unsent=distance(again.syn.end_seq, acks[0].ack),
        crossing=crossed,
        stuck_bytes=stuck,
        stuck_crossing=stuck_crossing,
        left_bytes=lab.sockets("client", "ESTABLISHED")[0].send_queue,
        foreign_bytes=len(read) - read.count(b"n"),
        read=len(read),
        errors=new.check() + peer.check(),
        paws_drops=lab.moved("server", "PAWSEstab"),
    )
