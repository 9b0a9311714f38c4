"""A second client whose connection lands on the TIME_WAIT that the first one left at the server."""

from twlab import Arm, Lab, Observation, Settings, at_least, scenario
from twlab.segment import match

APART_S = 45
PATIENCE_S = 4.0  # for a SYN and at least one retransmission of it


@scenario(
    topology="nat,clients=2",
    base=Settings(timestamps=2, time_wait_s=60, nat_time_wait_s=1),
    control=Arm(
        Settings(nat_time_wait_s=120),
        expect=Observation(same_port=False, connected=True, refused_as_old=0, resets=0, syns=1, time_waits=2, rearmed=False),
    ),
    treatment={
        "hiccup": Arm(
            Settings(),
            expect=Observation(same_port=True, connected=True, refused_as_old=1, resets=1, syns=2, time_waits=1, rearmed=False),
        ),
        "blackout": Arm(
            Settings(rfc1337=True),
            expect=Observation(same_port=True, connected=False, refused_as_old=at_least(2), resets=at_least(2), syns=at_least(2), rearmed=True),
        ),
    },
    remedies={
        "clock-ahead": Arm(
            Settings(),
            given={"behind_s": -APART_S},
            expect=Observation(same_port=True, connected=True, refused_as_old=0, resets=0, syns=1, time_waits=1),
        ),
        "clock-ahead-rfc1337": Arm(
            Settings(rfc1337=True),
            given={"behind_s": -APART_S},
            expect=Observation(same_port=True, connected=True, refused_as_old=0, resets=0, syns=1, time_waits=1),
        ),
        "gateway-remembers-rfc1337": Arm(
            Settings(rfc1337=True, nat_time_wait_s=120),
            expect=Observation(same_port=False, connected=True, refused_as_old=0, resets=0, syns=1, time_waits=2, rearmed=False),
        ),
    },
    reads="Linux net/ipv4/tcp_minisocks.c (tcp_timewait_state_process), net/ipv4/tcp_input.c (tcp_rcv_synsent_state_process), "
    "Documentation/networking/nf_conntrack-sysctl.rst; RFC 6191; RFC 1337 section 4; RFC 6888 section 3, REQ-8",
)
def nat_second_client(lab: Lab, *, behind_s: float = APART_S) -> Observation:
    """When a NAT gateway forgets a connection before the server does, the next client's connect stumbles over the first one's TIME_WAIT, and
    with tcp_rfc1337 it fails.

    Both clients use the same source port, and the gateway, which keeps it where it can, gives both the same outside address and port. The server is
    in TIME_WAIT for that four-tuple. It would take a SYN with a later timestamp (RFC 6191), but the second client booted 45 s after
    the first one: its SYN is older, and is answered by an acknowledgement of the old connection. The client resets that, the
    TIME_WAIT dies, and the SYN, sent again at once since Linux 5.6, opens the connection: some milliseconds (arm `hiccup`).

    With tcp_rfc1337 the server ignores the reset, and each SYN winds the 60 s up again (arm `blackout`): who keeps trying keeps himself out.
    Neither happens where the second client's clock is ahead, which is so for half of all pairs; nor where the gateway
    remembers for longer than the server: Linux does, for 120 s, and then takes another port.

    Clocks differ here as those of two machines do; the transcript says by which means.
    """
    first, second, server = lab["c1"], lab["c2"], lab["server"]
    listener = server.listen(80)
    lab.shift_clocks({"c1": max(behind_s, 0), "c2": max(-behind_s, 0)})
    opening = lab.wire.copy(match(flags="S"))

    lab.step("The first client's connection; the server closes first.")
    lab.require(lab.visit(first, server, listener, PATIENCE_S, source_port=40_000), "the first client connects")

    lab.step("The gateway forgets it, if its timer is shorter than 2 s. The second client connects from the same port.")
    lab.sleep(2.5)
    (before,) = lab.time_wait("server")
    syns, resets = lab.wire.watch(match(flags="S")), lab.wire.watch(match(destination_port=80, having="R"))
    attempt = second.try_connect(server, 80, source_port=40_000, timeout_s=PATIENCE_S)
    after = {entry.remote_port: entry.remaining_s for entry in lab.time_wait("server")}
    rearmed = after.get(before.remote_port, 0) > before.remaining_s
    if attempt.connection:
        lab.close(listener.accept(), attempt.connection)
    return Observation(
        same_port=syns.segments[0].source_port == opening.segments[0].source_port,
        connected=bool(attempt),
        refused_as_old=lab.moved("server", "PAWSEstab") + lab.moved("server", "PAWSTimewait"),  # by its own name since Linux 6.16
        resets=len(resets.segments),
        syns=len(syns.segments),
        time_waits=len(lab.time_wait("server")),
        rearmed=rearmed,
    )
