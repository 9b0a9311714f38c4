"""A stale segment whose numbers fit, at any age: the scenario of the sweep."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.segment import match

STALE = 400  # bytes of the segment that arrives late
MARGIN_S = 0.01  # how long before its arrival the four-tuple is wanted again
HARMED = Observation(harmed=1, delayed=0, unharmed=0)
DELAYED = Observation(harmed=0, delayed=1, unharmed=0)
UNHARMED = Observation(harmed=0, delayed=0, unharmed=1)


@scenario(
    topology="pair",
    base=Settings(timestamps=0),
    control=Arm(Settings(time_wait_s=60), expect=DELAYED),
    treatment={
        "treatment": Arm(Settings(time_wait_s=1), expect=HARMED),
        "ipv6": Arm(Settings(time_wait_s=1), given={"family": 6}, expect=HARMED),
    },
    remedies={
        "longer-than-delay": Arm(Settings(time_wait_s=3), expect=DELAYED),
        "timestamps": Arm(Settings(time_wait_s=1, timestamps=1), expect=UNHARMED),
        "timestamps-in-full": Arm(Settings(time_wait_s=60, timestamps=1), expect=UNHARMED),
    },
    reads="RFC 9293 section 3.6.1; RFC 7323 section 5; Linux net/ipv4/tcp_ipv4.c (tcp_twsk_unique), net/ipv4/tcp_input.c (tcp_validate_incoming)",
)
def stale_segment(lab: Lab, *, delay_s: float = 1.5, trials: int = 1, family: int = 4) -> Observation:
    """A segment older than TIME_WAIT is delivered to the next connection of its four-tuple; a younger one meets no connection.

    The client closes a connection, and wants its four-tuple again just before a segment of the old connection arrives that is
    `delay_s` old. While TIME_WAIT lasts it is refused: the application is delayed, not harmed. Once TIME_WAIT is over the connection is
    made, and the segment's bytes are read by an application to which nobody sent them. With timestamps Linux lets a client that
    names its port reopen at once, whatever the length of TIME_WAIT, and PAWS drops the segment: nothing happens.

    Three things are conditioned on, so that each trial asks about time alone: the segment was under way for `delay_s`, the
    four-tuple is wanted again just then, and the segment's sequence and acknowledgement numbers are the next ones of the new
    connection, for which its numbers are rewritten (its timestamp is its own). For the absolute risk of a segment whose sequence
    number is unrelated, multiply by W / 2^32 for a window of W bytes: 1.5e-5 for 64 KB. `trials` four-tuples are used side by side,
    in an order and at phases of the clock that are random; every trial is the same code.
    """
    client, server = lab["client"], lab["server"]
    listener = server.listen(80, family=family)
    ports = lab.random.sample(range(20_000, 60_000), trials)
    begins = sorted(lab.random.uniform(0, min(1.0, delay_s / 4)) for _ in ports)

    lab.step(f"{trials} connections: the client sends one segment on each, which the wire copies, and closes first.")
    began_s = lab.now_s
    copies = lab.wire.copy(match(source=client.address(family), payload=True), count=trials)
    sent_s = []
    for port, begin_s in zip(ports, begins, strict=True):
        lab.sleep_until(began_s + begin_s)
        old = client.connect(server, 80, source_port=port, family=family)
        peer = listener.accept()
        sent_s.append(lab.now_s)
        old.send(b"o" * STALE)
        peer.receive(STALE)
        old.close()
        peer.wait_closed_by_peer()
        peer.close()
    copies.wait(count=trials)

    lab.step(f"Just before its copy is {delay_s:g} s old, the client opens each four-tuple again.")
    counts = {"harmed": 0, "delayed": 0, "unharmed": 0}
    for port, at_s, copy in zip(ports, sent_s, copies.segments, strict=True):
        lab.sleep_until(at_s + delay_s - MARGIN_S)
        seen = lab.wire.watch(match(source=client.address(family), payload=True))
        attempt = client.try_connect(server, 80, source_port=port, family=family)
        if attempt.connection is None:
            seen.stop()
            lab.require(attempt.error == "EADDRNOTAVAIL", "the four-tuple is refused because it is in TIME_WAIT")
            counts["delayed"] += 1
            continue
        new, peer = attempt.connection, listener.accept()
        new.send(b"n" * 100)
        peer.receive(100)
        seen.stop()
        last = seen.segments[-1]
        lab.sleep_until(at_s + delay_s)
        lab.wire.inject(lab.wire.craft(like=copy, seq=last.end_seq, ack=last.ack))
        new.send(b"n" * 1000)
        read = peer.receive(1000)
        harmed = read.count(b"o") > 0 or len(read) < 1000 or bool(new.error or peer.error)
        counts["harmed" if harmed else "unharmed"] += 1
        new.abort()
        peer.wait_closed_by_peer()
        peer.close()
    return Observation(**counts, paws_drops=lab.moved("server", "PAWSEstab"))
