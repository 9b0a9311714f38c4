"""TIME_WAIT assassination: RFC 1337, figure 1."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.segment import match

STANDS = Observation(ended=False, reopened=False, refused_by="EADDRNOTAVAIL")
ENDED = Observation(acks=1, resets=1, ended=True, reopened=True, paws=0)


@scenario(
    topology="pair",
    base=Settings(time_wait_s=60, timestamps=0),
    control=Arm(Settings(), given={"late": "nothing"}, expect=Observation(acks=0, resets=0, rearmed=False, **STANDS)),
    treatment={
        "old-data": Arm(Settings(), given={"late": "data"}, expect=ENDED),
        "old-fin": Arm(Settings(), given={"late": "fin"}, expect=ENDED),
        "ipv6": Arm(Settings(), given={"late": "data", "family": 6}, expect=ENDED),
    },
    remedies={
        "rfc1337": Arm(
            Settings(rfc1337=True), given={"late": "data"}, expect=Observation(acks=1, resets=1, rearmed=True, **STANDS)
        ),
        "timestamps": Arm(
            Settings(timestamps=1), given={"late": "data"}, expect=Observation(acks=1, resets=1, ended=True, paws=1)
        ),
        "peer-not-gone": Arm(
            Settings(),
            given={"late": "data", "peer_gone": False},
            expect=Observation(acks=1, resets=0, rearmed=True, **STANDS),
        ),
    },
    reads="RFC 1337 section 1, figure 1, and section 3, fix F1; RFC 9293 section 3.10.7.4; "
    "Linux net/ipv4/tcp_minisocks.c (tcp_timewait_state_process), Documentation/networking/ip-sysctl.rst (tcp_rfc1337)",
)
def assassination(lab: Lab, *, late: str = "data", peer_gone: bool = True, family: int = 4) -> Observation:
    """One late segment ends TIME_WAIT, however long it should have lasted: the four-tuple is free
    at once.

    A segment that TIME_WAIT does not expect is answered by an acknowledgement. The peer closed
    second, so it has nothing left of the connection, and answers that acknowledgement by a RST. Its
    sequence number is, by construction, exactly the one that TIME_WAIT expects next, so Linux takes
    it and drops the socket. Sixty seconds have become two. There is nothing to forge: a
    duplicate of the peer's data, or of its FIN, that comes a little later than the close will do,
    and both are the genuine ones here, copied and kept by the wire.

    `tcp_rfc1337` ignores the RST (fix F1), and every late segment winds the clock up again;
    scenario `rfc1337-cost` shows what that costs. Timestamps are no remedy: PAWS calls the late
    segment old, and what it does with it is acknowledge it. While the RST does not come back,
    because a firewall drops it or the peer is still there (arm `peer-not-gone`, where the wire
    loses the acknowledgement), TIME_WAIT stands.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    listener = server.listen(80, family=family)

    lab.step("A short connection; the wire keeps a copy of the server's data and of its FIN.")
    old = client.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept()
    copies = {
        "data": wire.copy(match(source=server.address(family), payload=True)),
        "fin": wire.copy(match(source=server.address(family), having="F")),
    }
    lab.transfer(peer, old, 1000)
    lab.sleep(0.1)  # so that the FIN bears a later timestamp than the data
    lab.close(old, peer)

    lab.step("Two seconds later the copy arrives at the client.")
    lab.sleep(2)
    acks = wire.watch(match(source=client.address(family), flags="A"))
    resets = wire.watch(match(source=server.address(family), having="R"))
    if not peer_gone:
        wire.drop(match(source=client.address(family), flags="A"))
    (before,) = lab.time_wait("client")
    if late != "nothing":
        copies[late].release()
        lab.require(acks.wait(1), "TIME_WAIT has answered the copy")
    ended = lab.time_wait_ends("client", timeout_s=1)
    after = lab.time_wait("client")
    acks.stop()

    lab.step("The client opens the same four-tuple again.")
    attempt = client.try_connect(server, 80, source_port=40_000, family=family)
    return Observation(
        acks=len(acks.segments),
        resets=len(resets.segments),
        ended=ended,
        paws=lab.moved("client", "PAWSEstab") + lab.moved("client", "PAWSTimewait"),  # by its own name since Linux 6.16
        rearmed=bool(after) and after[0].remaining_s > before.remaining_s,
        reopened=bool(attempt),
        refused_by=attempt.error,
    )
