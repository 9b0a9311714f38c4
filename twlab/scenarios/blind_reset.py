"""A reset at exactly the next sequence number."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.segment import match

STANDS = Observation(answers=0, ended=False, reopened=False)
ENDED = Observation(answers=0, ended=True, reopened=True)
BESIDE, EXACT = {"beside": 1}, {"beside": 0}


@scenario(
    topology="pair",
    base=Settings(time_wait_s=60, timestamps=0),
    control=Arm(Settings(), given=BESIDE, expect=STANDS),
    treatment={
        "exact": Arm(Settings(), given=EXACT, expect=ENDED),
        "ipv6": Arm(Settings(), given={**EXACT, "family": 6}, expect=ENDED),
    },
    remedies={
        "rfc1337": Arm(Settings(rfc1337=True), given=EXACT, expect=STANDS),
        "below": Arm(Settings(), given={"beside": -1}, expect=STANDS),
        "timestamps": Arm(Settings(timestamps=1), given=EXACT, expect=Observation(answers=0, ended=True, paws=0)),
        "old-timestamp": Arm(
            Settings(timestamps=1),
            given={**EXACT, "old_timestamp": True},
            expect=Observation(answers=0, ended=False, paws=1),
        ),
        "established": Arm(
            Settings(),
            given={**BESIDE, "established": True},
            expect=Observation(answers=1, challenge_acks=1, ended=False, error=""),
        ),
        "established-exact": Arm(
            Settings(),
            given={**EXACT, "established": True},
            expect=Observation(answers=0, ended=True, error="ECONNRESET"),
        ),
    },
    reads="RFC 1337 section 3, fix F1; RFC 5961 section 3.2; RFC 7323 section 5.3; "
    "Linux net/ipv4/tcp_minisocks.c (tcp_timewait_state_process), net/ipv4/tcp_input.c (tcp_validate_incoming)",
)
def blind_reset(
    lab: Lab, *, beside: int = 0, established: bool = False, old_timestamp: bool = False, family: int = 4
) -> Observation:
    """A reset that bears exactly the next sequence number ends TIME_WAIT in silence; one beside it
    does nothing.

    Linux compares for equality, not with the window, so an attacker who cannot see the connection
    must guess one number of 2^32 for every four-tuple: at 100,000 RSTs a second that takes six
    hours on average, and TIME_WAIT is over in a minute. Shortening TIME_WAIT changes nothing here:
    what the guess would win is what a short TIME_WAIT gives away. The same rule guards a live
    connection (RFC 5961), where a RST inside the window but beside the number is answered by a
    challenge ACK.

    `tcp_rfc1337` ignores the RST. Timestamps do not help, because a RST without one is taken. One
    that bears an old timestamp is ignored: that is what guards against a genuine duplicate. The
    RSTs are crafted, since chance would not place them.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    listener = server.listen(80, family=family)

    lab.step("A connection." if established else "A short connection, which the client closes first.")
    seen = wire.watch(match(source=server.address(family)))
    old = client.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept()
    lab.transfer(peer, old, 1000)
    lab.sleep(0.1)
    first = seen.segments[0]
    if not established:
        lab.close(old, peer)
    last = seen.segments[-1]

    lab.step(f"A RST arrives at the client, {beside} beside the sequence number that it expects next.")
    stamp = first.timestamp if old_timestamp else None
    reset = wire.craft(like=last, flags="R", seq=last.end_seq + beside, ack=0, payload=b"", window=0, timestamp=stamp)
    answers = wire.watch(match(source=client.address(family)))
    wire.inject(reset)
    lab.sleep(0.5)
    ended = old.ended if established else not lab.time_wait("client")
    answers.stop()

    lab.step("The client opens the same four-tuple again.")
    reopened = not established and bool(client.try_connect(server, 80, source_port=40_000, family=family))
    return Observation(
        answers=len(answers.segments),
        challenge_acks=lab.moved("client", "TCPChallengeACK"),
        paws=lab.moved("client", "PAWSEstab") + lab.moved("client", "PAWSTimewait"),  # by its own name since Linux 6.16
        ended=ended,
        error=old.error,
        reopened=reopened,
    )
