"""Stale data: RFC 1337's hazard H1."""

from twlab import Arm, Lab, Observation, Settings, isn, scenario
from twlab.segment import distance, match

BULK = 33_000_000  # bytes of the old flow, each way; the clock of initial sequence numbers needs 2.1 s to pass them
EARLY = 3_000_000  # how many of them are still ahead when the four-tuple is opened again: connect() may be 192 ms late
STALE = 400  # bytes of the segment that arrives late
HARM = Observation(reopened=True, bytes_missing=0, foreign_bytes=STALE, errors="")


@scenario(
    topology="pair,mtu=60000",  # so that the bulk crosses in few segments; how it is cut does not matter
    base=Settings(timestamps=0),
    control=Arm(
        Settings(time_wait_s=60), expect=Observation(reopened=False, refused_by="EADDRNOTAVAIL", foreign_bytes=0)
    ),
    treatment={
        "treatment": Arm(Settings(time_wait_s=1), expect=HARM),
        "ipv6": Arm(Settings(time_wait_s=1), given={"family": 6}, expect=HARM),
    },
    remedies={
        "timestamps": Arm(
            Settings(time_wait_s=1, timestamps=1), expect=Observation(reopened=True, foreign_bytes=0, paws_drops=1)
        ),
        "timestamp-lost": Arm(
            Settings(time_wait_s=1, timestamps=1),
            given={"strip_timestamp": True},
            expect=Observation(reopened=True, foreign_bytes=STALE, paws_drops=0),
        ),
        "timestamps-wanted": Arm(
            Settings(time_wait_s=1, timestamps=1),
            given={"strip_timestamp": True, "firewall": True},
            expect=Observation(reopened=True, bytes_missing=0, foreign_bytes=0, answered=False),
        ),
        "one-way": Arm(
            Settings(time_wait_s=1),
            given={"one_way": True},
            expect=Observation(reopened=True, foreign_bytes=0, challenge_acks=1),
        ),
    },
    reads="RFC 1337 section 2.2, hazard H1; RFC 9293 section 3.6.1; RFC 7323 sections 3.2, 5.3 and 5.8; RFC 5961 "
    "section 5.2; "
    "Linux net/core/secure_seq.c (secure_tcp_seq), net/ipv4/tcp_input.c (tcp_ack, tcp_validate_incoming)",
)
def stale_data(
    lab: Lab, *, strip_timestamp: bool = False, firewall: bool = False, one_way: bool = False, family: int = 4
) -> Observation:
    """When TIME_WAIT is cut short, a late segment of a dead connection is delivered as data of the
    next one.

    TIME_WAIT keeps a four-tuple unused until every old segment has died. Cut to 1 s, the four-tuple
    is free while a copy of an old segment is still on its way. If the copy's sequence number is one
    that the new connection will use, the server takes it: its application reads bytes that were not
    sent to it. Their count is right, and neither end sees an error.

    For that, the sequence numbers of the two connections must overlap. Linux starts connections of
    one four-tuple 15,625,000 apart for each second between them, so the old flow must have been
    faster than 15.6 MB/s, as it is here; or the initial sequence numbers have nothing to do with
    each other, as behind NAT or a firewall that rewrites them. Then one stray segment falls into a
    receive window of W bytes with probability W / 2^32: 1.5e-5 for 64 KB, 1.5e-3 for 6 MB.

    And since Linux follows RFC 5961, the copy's acknowledgement number must fit as well: one that
    is older than what the new connection has had acknowledged is answered by a challenge ACK, and
    the data are dropped (arm `one-way`, where only the client had sent much). So both directions of
    the old flow must have outrun the clock, or chance must strike twice.

    Timestamps stop it: the copy's is older than the last one seen, and PAWS drops it. But Linux
    also takes a segment without a timestamp on a connection that uses them (RFC 7323 says it should
    not), so a copy that lost its option on the way gets through, unless the server's firewall does
    what the RFC says (arm `timestamps-wanted`), which locks out clients that have none.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    listener = server.listen(80, family=family)
    if firewall:
        lab.refuse("server", "tcp flags & (syn | rst) == 0 tcp option timestamp missing")

    lab.step("A fast transfer ends; the wire keeps a copy of its last segment.")
    opening = wire.copy(match(flags="S"))
    old = client.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept()
    lab.transfer(old, peer, BULK)
    lab.transfer(peer, old, 0 if one_way else BULK)
    late = wire.copy(match(payload=True))
    lab.transfer(old, peer, STALE)
    lab.close(old, peer)

    lab.step(
        "The client opens the same four-tuple again, just before the clock of initial sequence numbers reaches "
        "the copy."
    )
    syn, copy = opening.segments[0], late.segments[0]
    reopen_at_s = isn.reaches_at_s(syn.seq, syn.at_s, copy.seq) - EARLY / isn.PER_SECOND
    lab.require(reopen_at_s - lab.now_s > 1.1, "the old flow outran that clock by more than 1.1 s")
    lab.sleep_until(reopen_at_s)
    again = lab.reopen(old, listener)
    if again.error:
        return Observation(reopened=False, refused_by=again.error, foreign_bytes=0)
    new, peer = again.new, again.peer
    ahead, owed = distance(again.syn.end_seq, copy.seq), distance(again.syn_ack.end_seq, copy.ack)
    lab.require(ahead > 1000 and (owed > 0 or one_way), "the new connection starts below the copy")

    lab.step(
        "The new connection comes within 200 bytes of the copy. Then the copy arrives, which was never sent on "
        "this connection."
    )
    lab.transfer(new, peer, ahead - 200)
    lab.transfer(peer, new, 0 if one_way else owed)
    answer = wire.watch(match(source=server.address(family)))
    late.release(without_timestamp=strip_timestamp)
    answered = answer.wait(1)
    lab.require(answered or firewall, "the server has answered the copy")

    lab.step("The client sends its next 1,000 bytes; the server's application reads as many.")
    new.send(b"n" * 200)
    new.send(b"n" * 800)
    read = peer.receive(1000)
    return Observation(
        reopened=True,
        answered=answered,
        bytes_missing=1000 - len(read),
        foreign_bytes=len(read) - read.count(b"n"),
        errors=new.error + peer.error,
        paws_drops=lab.moved("server", "PAWSEstab"),
        challenge_acks=lab.moved("server", "TCPChallengeACK"),
    )
