"""The FIN overtakes data, and the data arrive after the close."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.segment import match

WHOLE = {"read": 2000, "in_order": True, "errors": "", "new_stream": "clean"}
REOPENED = {"reopen": True}


@scenario(
    topology="pair",
    base=Settings(timestamps=0),
    control=Arm(Settings(time_wait_s=60, rfc1337=True), expect=Observation(late_answer="A", time_wait_left=1, **WHOLE)),
    treatment={
        "cut-short": Arm(Settings(time_wait_s=1), expect=Observation(late_answer="R", time_wait_left=0, **WHOLE)),
        "ipv6": Arm(
            Settings(time_wait_s=1), given={"family": 6}, expect=Observation(late_answer="R", time_wait_left=0, **WHOLE)
        ),
        "reopened": Arm(
            Settings(time_wait_s=1), given=REOPENED, expect=Observation(late_answer="A", time_wait_left=0, **WHOLE)
        ),
        "assassinated": Arm(Settings(time_wait_s=60), expect=Observation(late_answer="A", time_wait_left=0, **WHOLE)),
    },
    remedies={
        "reopened-timestamps": Arm(
            Settings(time_wait_s=1, timestamps=1),
            given=REOPENED,
            expect=Observation(late_answer="A", paws_drops=1, **WHOLE),
        ),
    },
    reads="RFC 9293 section 3.10.7.4; RFC 1337 section 1; RFC 8985; Linux net/ipv4/tcp_input.c "
    "(tcp_data_queue_ofo), net/ipv4/tcp_minisocks.c",
)
def reordered_close(lab: Lab, *, reopen: bool = False, family: int = 4) -> Observation:
    """A FIN that overtakes data harms no reader, however short TIME_WAIT is; what arrives after the
    close finds what is left to meet it.

    The FIN stands at its place in the stream. One that comes early is kept until the gap before it
    is filled; only then does the reader see the end, and TIME_WAIT begins. So the reader's stream
    never depends on its length. The gap is filled by a repetition: that the FIN has come (SACK)
    shows the sender that the data before it are missing, and RACK repeats them within a round trip.

    The overtaken segment still arrives, after the close. A full TIME_WAIT knows it and acknowledges
    it; the sender, long gone, answers by a RST, and unless `tcp_rfc1337` ignores that, as in the
    control, plain reordering has ended TIME_WAIT (arm `assassinated`, see scenario
    `assassination`). After a short TIME_WAIT a closed port answers by a RST, which no socket is
    there to receive. And if the four-tuple has been opened again, the new connection gets it (arm
    `reopened`): it lies below the new connection's numbers, and is acknowledged and dropped. When
    it lies inside them, that is `stale-data`.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    listener = server.listen(80, family=family)

    lab.step(
        "The client asks and closes its sending half; the server's FIN overtakes the last 1,000 bytes of its answer."
    )
    old = client.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept()
    peer.send(b"1" * 1000)
    lab.require(old.wait_received(1000), "the first 1,000 bytes have arrived")
    old.finish()
    peer.wait_closed_by_peer()
    late = wire.hold(match(source=server.address(family), payload=True))
    fin = wire.watch(match(source=server.address(family), having="F"))
    peer.send(b"2" * 1000)
    peer.close()
    lab.require(
        fin.wait(1) and not old.closed_by_peer,
        "the FIN has arrived, the data before it have not, and the reader sees no end",
    )
    read = old.receive_all()
    old.close()
    closed = lab.wait_until(lambda: lab.time_wait("client") and not lab.sockets("server", "LAST_ACK"))
    lab.require(closed, "both have closed, the client is in TIME_WAIT")

    lab.step("Two seconds later the overtaken segment arrives.")
    lab.sleep(2)
    stream = None
    if reopen:
        stream = client.connect(server, 80, source_port=40_000, family=family), listener.accept()
    answers = wire.watch(match(source=client.address(family)))
    late.release()
    lab.require(answers.wait(1), "it is answered")
    lab.sleep(0.2)
    time_wait_left = len(lab.time_wait("client"))
    fresh = b""
    if stream:
        stream[1].send(b"3" * 1000)
        fresh = stream[0].receive(1000)
    return Observation(
        read=len(read),
        in_order=read == b"1" * 1000 + b"2" * 1000,
        late_answer=answers.segments[0].flags,
        time_wait_left=time_wait_left,
        new_stream="clean" if fresh == (b"3" * 1000 if stream else b"") else "spoilt",
        paws_drops=lab.moved("client", "PAWSEstab"),
        errors=old.error,
    )
