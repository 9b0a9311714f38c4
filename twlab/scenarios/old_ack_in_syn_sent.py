"""An old acknowledgement meets a connection in SYN_SENT: RFC 1337's hazard H3."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.segment import Segment, match
from twlab.wire.impairments import Release

PLACED = {"placed": True}
SURVIVES = Observation(opened=True, resets_by_client=1, challenge_acks=1, half_open_killed=0, accepted=1, error="")


@scenario(
    topology="pair",
    base=Settings(timestamps=0),
    control=Arm(Settings(time_wait_s=60), given=PLACED, expect=Observation(opened=False, refused_by="EADDRNOTAVAIL")),
    treatment={
        "cut-short": Arm(Settings(time_wait_s=1), given=PLACED, expect=SURVIVES),
        "ipv6": Arm(Settings(time_wait_s=1), given={**PLACED, "family": 6}, expect=SURVIVES),
        "syn-ack-lost": Arm(Settings(time_wait_s=1), given={**PLACED, "syn_ack_lost": True}, expect=SURVIVES),
    },
    remedies={
        "as-it-comes": Arm(
            Settings(time_wait_s=1),
            expect=Observation(opened=True, resets_by_client=1, challenge_acks=0, accepted=1, error=""),
        ),
        "timestamps": Arm(Settings(time_wait_s=1, timestamps=1), given=PLACED, expect=SURVIVES),
    },
    reads="RFC 1337 section 2.4, hazard H3; RFC 9293 section 3.10.7.3 and 3.10.7.4; RFC 5961 section 3.2; "
    "Linux net/ipv4/tcp_input.c (tcp_rcv_synsent_state_process), net/ipv4/tcp_minisocks.c (tcp_check_req)",
)
def old_ack_in_syn_sent(lab: Lab, *, placed: bool = False, syn_ack_lost: bool = False, family: int = 4) -> Observation:
    """When TIME_WAIT is cut short, an old ACK makes the client answer its own SYN's connection by a
    RST, and the connection survives it.

    In SYN_SENT an acknowledgement of anything but the SYN is answered by a RST, which bears the
    acknowledged number as its sequence number. RFC 1337 says that this RST kills the peer's
    half-open connection, and the attempt fails. It does not on these kernels. As it comes, an old
    ACK acknowledges lower numbers, and its RST lies outside the server's window (arm
    `as-it-comes`). Where it does lie inside, W / 2^32 by chance, the RST would have to be exact,
    since Linux applies RFC 5961's rule to half-open connections too; it draws a challenge ACK,
    which the client ignores. And an exact RST is impossible: the acknowledgement that would cause
    it is the right one. Kernels without that rule in `tcp_check_req` take any RST in the window,
    and there connect() succeeds by the SYN-ACK under way and ECONNRESET follows; none of ours is
    such a kernel.

    What is left is a repeated SYN, and, if the SYN-ACK is lost as well, a second's delay.
    Timestamps change nothing here: the acknowledgement number is looked at first. The wire lets its
    genuine copy overtake the SYN-ACK, with a number that fits.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    listener = server.listen(80, family=family)

    lab.step("A short connection; the wire keeps a copy of the server's acknowledgement.")
    old = client.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept()
    acks = wire.copy(match(source=server.address(family), flags="A"))
    lab.transfer(old, peer, 1000)
    lab.require(acks.wait(1), "the server has acknowledged the data by itself")
    lab.close(old, peer)

    lab.step("Two seconds later the client opens the same four-tuple again; the old ACK overtakes the SYN-ACK.")
    lab.sleep(2)
    resets = wire.watch(match(source=client.address(family), having="R"))
    challenges = wire.watch(match(source=server.address(family), flags="A"))

    def overtake(syn_ack: Segment, now_s: float) -> list[Release]:
        old_ack = wire.craft(like=acks.segments[0], ack=syn_ack.ack + 1000) if placed else acks.segments[0]
        return [Release(now_s, old_ack), *([] if syn_ack_lost else [Release(now_s + 0.004, syn_ack)])]

    wire.impair(match(flags="SA"), overtake, "puts the old ACK before", count=1)
    attempt = client.try_connect(server, 80, source_port=40_000, family=family)
    if not attempt.connection:
        return Observation(opened=False, refused_by=attempt.error)
    new = attempt.connection
    lab.wait_until(lambda: listener.waiting or new.check(), timeout_s=1)
    challenges.stop()
    return Observation(
        opened=True,
        resets_by_client=len(resets.segments),
        challenge_acks=len(challenges.segments),
        half_open_killed=lab.moved("server", "TcpAttemptFails"),
        accepted=listener.waiting,
        error=new.check(),
    )
