"""Stale data at a receiver with lwIP or gVisor, which check less than Linux does."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.segment import advance, match
from twlab.stacks import boot
from twlab.stacks.far_end import FarEnd

STALE = 400  # bytes of the segment that arrives late
ASTRAY = -(1 << 30)  # how far off an acknowledgement number is that has nothing to do with the connection
TABLE = "A late segment with a fitting sequence number, by the receiver's TCP stack"
LWIP, GVISOR = {"receiver": "lwip"}, {"receiver": "gvisor"}
HARM = Observation(delivered=1000, foreign_bytes=STALE, errors="")


@scenario(
    topology="pair,server={receiver}",
    base=Settings(timestamps=1, time_wait_s=1),
    control=Arm(Settings(), expect=Observation(delivered=1000, foreign_bytes=0, errors="", paws_drops=1)),
    treatment={
        "lwip": Arm(Settings(), given=LWIP, expect=HARM),
        "lwip-ipv6": Arm(Settings(), given=LWIP | {"family": 6}, expect=HARM),
        "lwip-stray-acknowledgement": Arm(Settings(), given=LWIP | {"stray": True}, expect=HARM),
        "gvisor": Arm(Settings(), given=GVISOR, expect=HARM),
        "gvisor-ipv6": Arm(Settings(), given=GVISOR | {"family": 6}, expect=HARM),
        "gvisor-stray-acknowledgement": Arm(Settings(), given=GVISOR | {"stray": True}, expect=HARM),
        "no-timestamps": Arm(Settings(timestamps=0), expect=HARM),
    },
    remedies={
        "stray-acknowledgement": Arm(
            Settings(timestamps=0),
            given={"stray": True},
            expect=Observation(delivered=1000, foreign_bytes=0, errors="", challenge_acks=1),
        ),
    },
    reads="RFC 1337 section 2.2, hazard H1; RFC 7323 section 5.3; RFC 5961 section 5.2; RFC 9293 section 3.10.7.4; "
    "lwIP 2.1.3 src/core/tcp_in.c (tcp_receive), src/include/lwip/opt.h (LWIP_TCP_TIMESTAMPS)",
)
def stale_data_lwip(lab: Lab, *, receiver: str = "linux", stray: bool = False, family: int = 4) -> Observation:
    """Timestamps keep a late segment of a dead connection from a Linux receiver; to one with lwIP
    it is delivered, also with an older timestamp and a wrong acknowledgement number.

    What stands between a late segment and the reader, once its sequence number falls into the
    window: PAWS, where both ends use timestamps (control), and the check of the acknowledgement
    number that RFC 5961 added (arm `stray-acknowledgement`, without timestamps). lwIP, as Debian
    builds it and as it comes, has neither: it does not negotiate timestamps, and takes the data of a
    segment that acknowledges what it never sent. So the whole of TIME_WAIT's work is left to
    TIME_WAIT, and a client that cuts it short relies on W / 2^32 alone, for a window of W bytes and
    each late segment. With Linux at both ends and no timestamps the acknowledgement number has to
    fit as well (arm `no-timestamps`, where it does).

    The copy is of an earlier connection of the same four-tuple. Its numbers are fitted to the
    present one, as chance would fit them; its timestamp stays as it was.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    stack, listener = boot(lab, "server"), None
    if stack:
        stack.listen(80, "read")
    else:
        listener = server.listen(80, family=family)
    from_client = match(source=client.address(family), payload=True)

    lab.step("A connection, which the client closes first; the wire keeps a copy of its last segment.")
    copy = wire.copy(from_client)
    old = client.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept() if listener else None
    old.send(b"o" * STALE)
    lab.require(copy.wait(1), "the copy is made")
    old.close()
    if peer:
        peer.wait_closed_by_peer()
        peer.close()
    lab.require(lab.wait_until(lambda: lab.time_wait("client")), "the client is in TIME_WAIT")
    lab.require(lab.time_wait_ends("client"), "it ends")

    lab.step("The client opens the same four-tuple again, and sends. Then the copy arrives.")
    before = stack.status() if stack else {}
    new = client.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept() if listener else None
    sample = wire.copy(from_client)
    new.send(b"n" * 100)
    lab.require(sample.wait(1), "the present numbers are known")
    lab.sleep(0.3)  # lwIP acknowledges up to 250 ms late
    present = sample.segments[0]
    wire.inject(
        wire.craft(
            like=copy.segments[0],
            seq=advance(present.end_seq, 200),
            ack=advance(present.ack, ASTRAY if stray else 0),
        )
    )
    lab.sleep(0.3)

    lab.step("The client sends its next 900 bytes.")
    new.send(b"n" * 200)
    new.send(b"n" * 700)
    if peer:
        read = peer.receive(1000)
        delivered, foreign, error = len(read), read.count(b"o"), peer.error
    else:
        assert stack
        lab.wait_until(lambda: _since(stack, before, "received") >= 1000, 2)
        delivered, foreign = _since(stack, before, "received"), _since(stack, before, "byte_111")
        error = ""
    facts = {"delivered": delivered, "foreign_bytes": foreign, "errors": new.error + error}
    lab.row(TABLE, receiver=receiver, timestamps=lab.settings["client"].timestamps, stray=stray, **facts)
    return Observation(
        **facts, paws_drops=lab.moved("server", "PAWSEstab"), challenge_acks=lab.moved("server", "TCPChallengeACK")
    )


def _since(stack: FarEnd, before: dict[str, int | str], name: str) -> int:
    """Return how far a count of the stack has moved."""
    return int(stack.status().get(name, 0)) - int(before.get(name, 0))
