"""An old acknowledgement in a new connection."""

from twlab import Arm, Lab, Observation, Settings, at_least, scenario
from twlab.segment import match

PLACED = {"placed": True}
HEALED = Observation(reopened=True, unacknowledged=1000, sent_again=at_least(1), read=2000, errors="")
STUCK = Observation(reopened=True, unacknowledged=0, sent_again=0, read=0, errors="")


@scenario(
    topology="pair",
    base=Settings(timestamps=0),
    control=Arm(Settings(time_wait_s=60), given=PLACED, expect=Observation(reopened=False, refused_by="EADDRNOTAVAIL")),
    treatment={
        "cut-short": Arm(Settings(time_wait_s=1), given=PLACED, expect=STUCK),
        "ipv6": Arm(Settings(time_wait_s=1), given={**PLACED, "family": 6}, expect=STUCK),
    },
    remedies={
        "timestamps": Arm(
            Settings(time_wait_s=1, timestamps=1), given=PLACED, expect=Observation(paws_drops=1, **HEALED)
        ),
        "as-it-comes": Arm(Settings(time_wait_s=1), expect=Observation(paws_drops=0, **HEALED)),
    },
    reads="RFC 9293 section 3.10.7.4; RFC 1337 section 2.3; RFC 5961 section 5.2; RFC 7323 section 5.3; "
    "Linux net/ipv4/tcp_input.c (tcp_ack, tcp_validate_incoming), net/core/secure_seq.c",
)
def late_ack(lab: Lab, *, placed: bool = False, family: int = 4) -> Observation:
    """When TIME_WAIT is cut short, an old ACK can confirm bytes of the next connection that never
    arrived: they are lost for ever.

    An acknowledgement is believed if its sequence number lies in the receive window and what it
    acknowledges has been sent. The client forgets those bytes. If they were lost on the way, they
    cannot be retransmitted: the server waits for them and stores what follows, the client waits for
    nothing, both stay ESTABLISHED, and no error is ever reported, not even when more is sent.
    Nothing is wrong with what is read, only nothing is read any more.

    By itself the old ACK does not fit (arm `as-it-comes`): both its numbers lie below the new
    connection's. To fit, both must fall into a window, after flows faster than the clock of initial
    sequence numbers in both directions (scenario `stale-data`), or by chance, about (W / 2^32)^2:
    2.3e-10 for windows of 64 KB, 2e-6 for 6 MB; and just then a segment must be lost. So the wire's
    genuine copy is given numbers that fit. Timestamps stop it: the copy's is old.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    listener = server.listen(80, family=family)

    lab.step("A short connection; the wire keeps a copy of the server's acknowledgement.")
    old = client.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept()
    acks = wire.copy(match(source=server.address(family), flags="A"))
    lab.transfer(old, peer, 1000)
    lab.require(acks.wait(1), "the server has acknowledged the data by itself")
    lab.sleep(0.1)
    lab.close(old, peer)

    lab.step(
        "Two seconds later the client opens the same four-tuple again. 1,000 bytes that it sends are lost on the way."
    )
    lab.sleep(2)
    again = lab.reopen(old, listener)
    if again.error:
        return Observation(reopened=False, refused_by=again.error)
    new, peer = again.new, again.peer
    lost = wire.drop(match(source=client.address(family), payload=True))
    new.send(b"n" * 1000)
    lab.require(lost.wait(1), "they are lost")

    lab.step("The old ACK arrives; then nothing is lost any more.")
    ack = acks.segments[0]
    wire.inject(wire.craft(like=ack, seq=again.syn_ack.end_seq + 100, ack=again.syn.end_seq + 1000) if placed else ack)
    lab.sleep(0.05)
    unacknowledged = lab.sockets("client", "ESTABLISHED")[0].send_queue
    lost.stop()
    repeated = wire.watch(match(source=client.address(family), payload=True))
    lab.sleep(1.5)
    sent_again = len(repeated.segments)

    lab.step("The client sends 1,000 bytes more; the server's application reads.")
    new.send(b"m" * 1000)
    read = peer.receive(2000, timeout_s=1)
    return Observation(
        reopened=True,
        unacknowledged=unacknowledged,
        sent_again=sent_again,
        read=len(read),
        paws_drops=lab.moved("client", "PAWSEstab") + lab.moved("client", "PAWSOldAck"),  # the latter on newer kernels
        errors=new.check() + peer.check(),
    )
