"""An old FIN in a new connection."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.segment import match

AHEAD = 400  # bytes by which the old FIN, where it is placed, lies ahead of what the server has
PLACED = {"placed": True}
WHOLE = Observation(reopened=True, read=1000, end_of_stream=False, client_error="")
CUT_OFF = Observation(
    reopened=True, read=AHEAD, end_of_stream=True, server_error="", client_error="ECONNRESET", aborted_on_data=1
)


@scenario(
    topology="pair",
    base=Settings(timestamps=0),
    control=Arm(Settings(time_wait_s=60), given=PLACED, expect=Observation(reopened=False, refused_by="EADDRNOTAVAIL")),
    treatment={
        "cut-short": Arm(Settings(time_wait_s=1), given=PLACED, expect=CUT_OFF),
        "ipv6": Arm(Settings(time_wait_s=1), given={**PLACED, "family": 6}, expect=CUT_OFF),
    },
    remedies={
        "timestamps": Arm(
            Settings(time_wait_s=1, timestamps=1), given=PLACED, expect=Observation(paws_drops=1, **WHOLE)
        ),
        "as-it-comes": Arm(Settings(time_wait_s=1), expect=Observation(answers=1, challenge_acks=0, **WHOLE)),
        "old-ack-number": Arm(
            Settings(time_wait_s=1),
            given={**PLACED, "ack_too": False},
            expect=Observation(answers=1, challenge_acks=1, **WHOLE),
        ),
    },
    reads="RFC 9293 section 3.6.1 and 3.10.7.4; RFC 5961 section 5.2; "
    "Linux net/ipv4/tcp_input.c (tcp_data_queue, tcp_fin, tcp_ack, tcp_rcv_state_process), net/core/secure_seq.c",
)
def late_fin(lab: Lab, *, placed: bool = False, ack_too: bool = True, family: int = 4) -> Observation:
    """When TIME_WAIT is cut short, an old FIN can end the next connection in the middle: the reader
    takes a part for the whole.

    A FIN whose sequence number lies ahead of what has arrived is kept, like data, until the stream
    comes to it. Then the server's application reads the end of the stream, without an error, 600
    bytes before the client has finished. The client's bytes that follow meet a closed direction:
    Linux aborts the connection, and only the sender learns of it.

    By itself the old FIN does not fit (arm `as-it-comes`): Linux starts the new connection above
    the old numbers, and the FIN is answered as a duplicate. To fit, its sequence number must fall
    into the window, W / 2^32 by chance, 1.5e-5 for 64 KB, after a flow faster than the clock of
    initial sequence numbers (scenario `stale-data`) or where another machine continues behind the
    same address; and since RFC 5961 its acknowledgement number must fit as well (arm
    `old-ack-number`: a challenge ACK, and the FIN is dropped). So the wire's genuine copy is given
    numbers that fit. Timestamps stop it: the copy's is old.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    listener = server.listen(80, family=family)

    lab.step("A short connection; the wire keeps a copy of the client's FIN.")
    old = client.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept()
    lab.transfer(old, peer, 1000)
    fins = wire.copy(match(source=client.address(family), having="F"))
    lab.close(old, peer)

    lab.step("Two seconds later the client opens the same four-tuple again, and sends 100 bytes.")
    lab.sleep(2)
    again = lab.reopen(old, listener)
    if again.error:
        return Observation(reopened=False, refused_by=again.error)
    new, peer = again.new, again.peer
    new.send(b"n" * 100)
    lab.require(peer.wait_received(100), "they have arrived")

    lab.step("The old FIN arrives.")
    fin = fins.segments[0]
    if placed:
        fin = wire.craft(like=fin, seq=again.syn.end_seq + AHEAD, ack=again.syn_ack.end_seq if ack_too else fin.ack)
    answers = wire.watch(match(source=server.address(family)))
    wire.inject(fin)
    lab.sleep(0.1)
    answered = len(answers.segments)

    lab.step("The client sends 900 bytes more; the server's application reads.")
    new.send(b"n" * 300)
    new.send(b"n" * 600)
    read = peer.receive(1000)
    lab.sleep(0.1)
    return Observation(
        reopened=True,
        answers=answered,
        challenge_acks=lab.moved("server", "TCPChallengeACK"),
        paws_drops=lab.moved("server", "PAWSEstab"),
        read=len(read),
        end_of_stream=peer.closed_by_peer,
        server_error=peer.error,
        client_error=new.check(),
        aborted_on_data=lab.moved("server", "TCPAbortOnData"),
    )
