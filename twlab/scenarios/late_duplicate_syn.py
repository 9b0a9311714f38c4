"""An old SYN arrives when TIME_WAIT is over."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.segment import match

MANY = 20  # old SYNs; more than the backlog takes
FULL = Settings(syn_backlog=16, syncookies=0)
ALONE = {"resets_lost": True}
CROWD = {"resets_lost": True, "connections": MANY}


@scenario(
    topology="pair",
    control=Arm(
        Settings(time_wait_s=60),
        given=ALONE,
        expect=Observation(syn_acks=0, half_open=0, accepted=0, newcomer="connected"),
    ),
    treatment={
        "cut-short": Arm(
            Settings(time_wait_s=1),
            given=ALONE,
            expect=Observation(syn_acks=1, half_open=1, accepted=0, newcomer="connected"),
        ),
        "ipv6": Arm(
            Settings(time_wait_s=1),
            given={**ALONE, "family": 6},
            expect=Observation(syn_acks=1, half_open=1, accepted=0),
        ),
        "many": Arm(
            FULL.over(Settings(time_wait_s=1)),
            given=CROWD,
            expect=Observation(half_open=13, accepted=0, newcomer="pending"),
        ),
        "twice": Arm(
            Settings(time_wait_s=60), given={"copies": 2}, expect=Observation(syn_acks=1, resets=2, half_open=0)
        ),
    },
    remedies={
        "client-answers": Arm(
            Settings(time_wait_s=1),
            given={},
            expect=Observation(syn_acks=1, resets=1, half_open=0, newcomer="connected"),
        ),
        "many-answered": Arm(
            FULL.over(Settings(time_wait_s=1)),
            given={"connections": MANY},
            expect=Observation(half_open=0, newcomer="connected"),
        ),
        "many-cookies": Arm(
            Settings(time_wait_s=1, syn_backlog=16, syncookies=1),
            given=CROWD,
            expect=Observation(accepted=0, newcomer="connected"),
        ),
        "many-full-length": Arm(
            FULL.over(Settings(time_wait_s=60)),
            given=CROWD,
            expect=Observation(syn_acks=0, half_open=0, newcomer="connected"),
        ),
        "twice-rfc1337": Arm(
            Settings(time_wait_s=60, rfc1337=True), given={"copies": 2}, expect=Observation(syn_acks=0, half_open=0)
        ),
    },
    reads="RFC 9293 section 3.5 (recovery from an old duplicate SYN) and 3.6.1; RFC 1337; RFC 4987 section 2; "
    "Linux net/ipv4/tcp_input.c (tcp_conn_request), net/ipv4/tcp_minisocks.c",
)
def late_duplicate_syn(
    lab: Lab, *, connections: int = 1, copies: int = 1, resets_lost: bool = False, family: int = 4
) -> Observation:
    """When TIME_WAIT is over, an old SYN makes the server open a connection that no client asked
    for, and many of them fill its backlog.

    The server closed first and holds TIME_WAIT. While that lasts, it distinguishes a late copy of
    the SYN from a new one by its sequence number and its timestamp, and only acknowledges it.
    Afterwards nothing remembers it, and the listener answers by a SYN-ACK. No application sees
    anything yet: the handshake does not complete. If the client's RST comes back, the half-open
    connection lives for one round trip (arm `client-answers`), as RFC 9293 wants it. Where the RST
    is lost, behind a firewall or a NAT gateway that has forgotten the connection, or because the
    client has gone, it lives for 63 s; and with enough of them a listener without SYN cookies,
    which has room for three quarters of `tcp_max_syn_backlog`, lets no client in. The last quarter
    is for peers that the server remembers; with `tcp_no_metrics_save=0`, Linux's default, which the
    lab pins to 1, the client is one, and 17 SYNs stay instead of 13 (`--defaults`).

    A full-length TIME_WAIT stops the first copy, not the second (arm `twice`): its acknowledgement
    draws the client's RST, and that ends TIME_WAIT (RFC 1337), unless `tcp_rfc1337` ignores it.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    listener = server.listen(80, family=family)

    lab.step("Short connections, which the server closes first; the wire keeps a copy of each SYN.")
    old_syns = wire.copy(match(flags="S"), count=connections)
    for number in range(connections):
        old = client.connect(server, 80, source_port=40_000 + number, family=family)
        peer = listener.accept()
        lab.transfer(old, peer, 100)
        lab.close(peer, old)

    lab.step("Two seconds later the old SYNs arrive.")
    lab.sleep(2)
    answers = wire.watch(match(source=server.address(family)))
    resets = wire.watch(match(source=client.address(family), having="R"))
    if resets_lost:
        wire.drop(match(source=client.address(family), having="R"))
    for _ in range(copies):
        old_syns.release()
        lab.sleep(0.2)
    syn_acks = sum(segment.flags == "SA" for segment in answers.segments)
    half_open = len(lab.sockets("server", "SYN_RECV"))

    lab.step("A new connection is tried.")
    attempt = client.try_connect(server, 80, family=family, timeout_s=0.9)
    if attempt:
        listener.accept()
    return Observation(
        syn_acks=syn_acks,
        resets=len(resets.segments),
        half_open=half_open,
        accepted=listener.waiting,  # beside the newcomer
        newcomer=attempt.error or "connected",
    )
