"""The last acknowledgement is lost."""

from itertools import pairwise

from twlab import Arm, Lab, Observation, Settings, at_most, scenario
from twlab.segment import match

ANSWERED = Observation(answer="A", error="", state="CLOSE")
RESET = Observation(answer="R", error="ECONNRESET")
REOPENED = Observation(challenge_acks=1, resets=1, syns=2, syn_wait_s=at_most(0.5), reopened=True, error="ECONNRESET")


@scenario(
    topology="pair",
    base=Settings(timestamps=0),
    control=Arm(Settings(time_wait_s=60), expect=ANSWERED),
    treatment={
        "cut-short": Arm(Settings(time_wait_s=0.5), expect=RESET),
        "ipv6": Arm(Settings(time_wait_s=0.5), given={"family": 6}, expect=RESET),
        "reopened": Arm(Settings(time_wait_s=0.5), given={"reopen": True}, expect=REOPENED),
        "reopened-timestamps": Arm(Settings(time_wait_s=0.5, timestamps=1), given={"reopen": True}, expect=REOPENED),
    },
    remedies={"ten-seconds": Arm(Settings(time_wait_s=10), expect=ANSWERED)},
    reads="RFC 9293 section 3.6.1; RFC 1323 appendix B.2 (a); RFC 5961 section 4.2; "
    "Linux net/ipv4/tcp_input.c (tcp_reset, tcp_validate_incoming, tcp_rcv_synsent_state_process)",
)
def lost_last_ack(lab: Lab, *, reopen: bool = False, family: int = 4) -> Observation:
    """When the last ACK is lost and TIME_WAIT is over before the FIN comes again, the peer's
    application gets an error, as if its connection had broken.

    It had everything, and sent everything; only its own FIN is not yet acknowledged. The repeated
    FIN finds no socket, the answer is a RST, and an application that still holds the peer's socket,
    to learn whether all has arrived, reads ECONNRESET instead. One that has already called close()
    learns nothing. This first task of TIME_WAIT needs no 60 s: it has to outlast the peer's
    retransmissions: with a short round trip they come 0.2, 0.6, 1.4, 3.0 and 6.2 s after the FIN,
    so that 10 s outlast five losses in a row (RFC 1323, B.2).

    And if the four-tuple is opened again while the peer is still in LAST_ACK (arm `reopened`), the
    SYN is answered by a challenge ACK, that by a RST, which clears the peer away; and since Linux
    5.6 the SYN comes again two ticks later instead of after a second. The newcomer is connected;
    the old peer has its ECONNRESET. It is the same with timestamps.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    listener = server.listen(80, family=family)

    lab.step("The client closes; the server's application has read everything, closes too, and waits for the end.")
    old = client.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept()
    lab.transfer(old, peer, 1000)
    old.close()
    peer.wait_closed_by_peer()

    lab.step("The client's last ACK is lost, and so are the server's FINs that follow.")
    last_ack = wire.drop(match(source=client.address(family), flags="A"), count=1)
    peer.finish()
    lab.require(last_ack.wait(1), "the last ACK is lost")
    lossy = wire.drop(match(source=server.address(family), having="F"))
    lab.time_wait_ends("client", timeout_s=2)
    lab.require(peer.state == "LAST_ACK", "the server is still in LAST_ACK")

    if not reopen:
        lab.step("A FIN comes through.")
        answers = wire.watch(match(source=client.address(family)))
        lossy.stop()
        lab.require(answers.wait(5), "it is answered")
        lab.wait_until(lambda: peer.state != "LAST_ACK", timeout_s=1)
        return Observation(answer=answers.segments[0].flags, state=peer.state, error=peer.check())

    lab.step("The client opens the same four-tuple again.")
    syns = wire.watch(match(flags="S"))
    resets = wire.watch(match(source=client.address(family), having="R"))
    attempt = client.try_connect(server, 80, source_port=40_000, family=family)
    waits_s = [later.at_s - earlier.at_s for earlier, later in pairwise(syns.segments)]
    return Observation(
        challenge_acks=lab.moved("server", "TCPChallengeACK"),
        resets=len(resets.segments),
        syns=len(syns.segments),
        syn_wait_s=round(sum(waits_s), 3),
        reopened=bool(attempt),
        error=peer.check(),
    )
