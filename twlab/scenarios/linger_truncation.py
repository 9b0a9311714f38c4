"""SO_LINGER 0: no TIME_WAIT, at the price of what has not arrived."""

from twlab import Arm, Lab, Observation, Settings, at_least, scenario
from twlab.segment import match

SIZE = 50_000  # bytes that the client sends before it closes; ten segments of them are under way at first (RFC 6928)
ONE_WAY_S = (
    0.15  # less than the least RTO, 0.2 s: a FIN sent again would meet the TIME_WAIT or its end, by the phase of a tick
)
WHOLE = {"missing": 0, "sender_told": ""}
CUT = {"sender_told": "", "receiver_told": "ECONNRESET", "in_time_wait": 0}


@scenario(
    topology="pair",
    base=Settings(time_wait_s=60, send_buffer=1_000_000),
    control=Arm(Settings(), expect=Observation(**WHOLE, receiver_told="", in_time_wait=1)),
    treatment={
        "linger": Arm(Settings(), given={"ending": "linger"}, expect=Observation(missing=at_least(1), **CUT)),
        "linger-ipv6": Arm(
            Settings(), given={"ending": "linger", "family": 6}, expect=Observation(missing=at_least(1), **CUT)
        ),
        "segment-lost": Arm(
            Settings(),
            given={"ending": "linger", "size": 100, "lose_first": True},
            expect=Observation(missing=100, **CUT),
        ),
        "read-late": Arm(
            Settings(), given={"ending": "linger", "reads_late": True}, expect=Observation(missing=0, **CUT)
        ),
    },
    remedies={
        "close-repeats": Arm(
            Settings(),
            given={"size": 100, "lose_first": True},
            expect=Observation(**WHOLE, receiver_told="", in_time_wait=1),
        ),
        "shutdown-first": Arm(
            Settings(),
            given={"ending": "shutdown, read to the end, linger"},
            expect=Observation(**WHOLE, receiver_told="", in_time_wait=1),
        ),
        "confirmed": Arm(Settings(), given={"ending": "read a reply, linger"}, expect=Observation(missing=0, **CUT)),
        "peer-closes-first": Arm(
            Settings(),
            given={"ending": "read to the end, linger"},
            expect=Observation(**WHOLE, receiver_told="", in_time_wait=0),
        ),
    },
    reads="socket(7) (SO_LINGER); RFC 9293 sections 3.10.5 and 3.10.7.4; RFC 6928; Linux net/ipv4/tcp.c "
    "(__tcp_close, tcp_disconnect, "
    "tcp_recvmsg_locked), net/ipv4/tcp_input.c (tcp_reset, tcp_fin)",
)
def linger_truncation(
    lab: Lab,
    *,
    ending: str = "close",
    size: int = SIZE,
    lose_first: bool = False,
    reads_late: bool = False,
    family: int = 4,
) -> Observation:
    """Closing with SO_LINGER 0 avoids TIME_WAIT by cutting off what has not arrived yet, and the
    side that closes gets no error.

    With a linger time of 0 close() is an abort: the kernel throws away what it has not sent,
    repeats nothing that gets lost, sends a RST, and forgets the connection. send() had returned
    success for all of it. The receiver gets ECONNRESET where the end should have been, and whether
    it then trusts what it has is its own affair.

    What the receiver's kernel has acknowledged is safe on Linux even when the application has not
    read it yet (`read-late`): the queue is handed out before the error. RFC 9293 has the receiver
    flush it, so do not count on that with other systems.

    The advice "shutdown(), read to the end, then linger 0" (`shutdown-first`) loses nothing, but it
    saves nothing either: the kernel goes to TIME_WAIT by itself when the peer's FIN arrives, before
    close() is called. Linger 0 is of use, and safe, in two places: when the peer has confirmed
    everything in its own words, as a complete reply does (`confirmed`; the peer still sees the
    reset), and when the peer has closed first (`peer-closes-first`; the RST ends its FIN_WAIT2, so
    there is no TIME_WAIT anywhere, and nothing to hold off old segments).
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    listener = server.listen(80, family=family)
    connection = client.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept()
    from_client = match(source=client.address(family))

    lab.step(f"The client hands {size} bytes to its kernel; the way to the server takes {ONE_WAY_S:g} s.")
    if reads_late:
        peer.pause()
    if lose_first:
        wire.drop(from_client & match(payload=True), count=1)
    wire.delay(from_client, ONE_WAY_S)
    connection.send(b"d" * size)

    lab.step(f"The client ends the connection: {ending}.")
    if reads_late:
        lab.sleep(20 * ONE_WAY_S)
    if ending.startswith("shutdown"):
        connection.finish()
    if "read" in ending:
        lab.require(peer.wait_received(size), "the server has read all")
        if ending.startswith("shutdown"):
            lab.require(peer.wait_closed_by_peer(), "the server has read the end")
        if "reply" in ending:
            peer.send(b"all of it")
            lab.require(connection.receive(9) == b"all of it", "the client knows")
        else:
            peer.close()
            lab.require(connection.wait_closed_by_peer(), "the client has read the end")
    if ending.endswith("linger"):
        connection.abort()
    else:
        connection.close()

    lab.step("The server reads what there is.")
    lab.sleep(4 * ONE_WAY_S)
    peer.resume()
    missing = size - len(peer.receive(size))
    peer.wait_closed_by_peer()
    receiver_told = peer.error
    peer.close()
    lab.sleep(4 * ONE_WAY_S)
    return Observation(
        missing=missing,
        sender_told=connection.error,
        receiver_told=receiver_told,
        in_time_wait=len(lab.time_wait("client")) + len(lab.time_wait("server")),
    )
