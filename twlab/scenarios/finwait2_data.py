"""Data for a FIN_WAIT2 that no application owns any more."""

from contextlib import suppress

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.errors import ScenarioError
from twlab.segment import match

REPLY = b"the reply. " * 10

LOST = Observation(answers="R", received=0, server_error="", left="nothing")


@scenario(
    topology="pair",
    base=Settings(time_wait_s=60),
    control=Arm(Settings(), expect=Observation(answers="A", received=len(REPLY), server_error="", left="TIME_WAIT")),
    treatment={
        "close": Arm(Settings(), given={"client_does": "close"}, expect=LOST),
        "close-ipv6": Arm(Settings(), given={"client_does": "close", "family": 6}, expect=LOST),
        "close-long-ago": Arm(Settings(fin_timeout_s=1), given={"client_does": "close", "pause_s": 2.0}, expect=LOST),
        "fin-first": Arm(Settings(), given={"client_does": "close", "arrives": "reordered"}, expect=LOST),
        "second-write": Arm(
            Settings(),
            given={"client_does": "close", "writes": 2},
            expect=Observation(answers="R", received=0, server_error="EPIPE", left="nothing"),
        ),
        "duplicate": Arm(
            Settings(),
            given={"client_does": "close", "arrives": "duplicate"},
            expect=Observation(answers="A", received=0, server_error="", left="TIME_WAIT"),
        ),
    },
    remedies={
        "half-close": Arm(
            Settings(),
            given={"client_does": "half-close"},
            expect=Observation(answers="A", received=len(REPLY), server_error="", left="TIME_WAIT"),
        ),
    },
    reads="RFC 1122 section 4.2.2.13 (half-duplex close); RFC 9293 section 3.6.1; Linux net/ipv4/tcp_minisocks.c "
    "(tcp_timewait_state_process, the "
    "FIN_WAIT2 substate), net/ipv4/tcp.c (__tcp_close)",
)
def finwait2_data(
    lab: Lab,
    *,
    client_does: str = "wait",
    arrives: str = "in order",
    writes: int = 1,
    pause_s: float = 0.1,
    family: int = 4,
) -> Observation:
    """A client that closes before it has the reply loses it and its TIME_WAIT: data that meet an
    orphaned FIN_WAIT2 are answered by a RST.

    close() gives up both directions. The kernel sends the FIN, keeps a mini-socket, the same small
    thing that a TIME_WAIT is, and waits tcp_fin_timeout for the peer's FIN. Anything new but that
    FIN destroys it: data are answered by a RST (RFC 1122 asks for one, to show that data were
    lost), and so is a FIN that overtook its data, since the data are missing before it. There is
    then no TIME_WAIT either. Whether the mini-socket has meanwhile run out (`close-long-ago`) makes
    no difference that the server could see.

    The server that has passed all to the kernel in one write gets no error at all: it had read the
    client's end before, close() succeeds, and its log says that the reply was delivered. Only one
    that writes again gets EPIPE (`second-write`; not ECONNRESET, since it is in CLOSE_WAIT).

    A mere duplicate of what had arrived before does no harm: it is answered with an ACK, and the
    FIN_WAIT2 goes on to TIME_WAIT. What helps is shutdown(SHUT_WR) instead of close(), and reading
    up to the peer's FIN: the connection is half closed, and the reply comes through.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    from_server = match(source=server.address(family))
    listener = server.listen(80, family=family)

    lab.step("The server greets; the client asks, and then does what this arm is about.")
    greeting = wire.copy(from_server & match(payload=True))
    connection = client.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept()
    lab.transfer(peer, connection, 100)
    lab.transfer(connection, peer, 10)
    if client_does == "close":
        connection.close()
    elif client_does == "half-close":
        connection.finish()
    if client_does != "wait":
        lab.require(peer.wait_closed_by_peer(), "the server has read the end")
    lab.sleep(pause_s)  # delayed ACKs have been sent

    lab.step(f"What the server sends arrives: {arrives}.")
    answers = wire.watch(match(source=client.address(family)))
    if arrives == "duplicate":
        greeting.release()
    else:
        if arrives == "reordered":
            wire.reorder(from_server & match(payload=True))
        peer.send(REPLY[: len(REPLY) // writes])
        if writes > 1:
            lab.require(answers.wait(1), "the first half of the reply is answered")
            with suppress(ScenarioError):  # an error is an observation here
                peer.send(REPLY[len(REPLY) // writes :])
        if arrives == "reordered":
            peer.close()
    lab.require(answers.wait(1), "the client's kernel has answered")
    received = connection.receive(len(REPLY), timeout_s=1.0) if client_does != "close" else b""
    lab.sleep(0.05)

    lab.step("The server closes, and so does the client.")
    first = answers.segments[0].flags
    error = peer.error
    peer.close()
    connection.close()
    lab.sleep(0.05)
    left = " ".join(entry.state for entry in lab.sockets("client") if entry.local_port == 40_000)
    return Observation(answers=first, received=len(received), server_error=error, left=left or "nothing")
