"""The cost of tcp_rfc1337."""

from twlab import Arm, Lab, Observation, Settings, isn, scenario
from twlab.segment import match

BULK = 33_000_000  # bytes that the old client sends; the clock of initial sequence numbers needs 2.1 s to pass them
PATIENCE_S = 3.5  # the SYNs of one connect() leave at 0, 1 and 3 s


@scenario(
    topology="pair,mtu=60000",  # so that the bulk crosses in few segments
    base=Settings(timestamps=0, time_wait_s=60),
    control=Arm(Settings(), expect=Observation(connected=True, resets=1, syns=2, time_wait_left=0)),
    treatment={
        "rfc1337": Arm(
            Settings(rfc1337=True), expect=Observation(connected=False, outcome="pending", time_wait_left=1)
        ),
        "ipv6": Arm(
            Settings(rfc1337=True),
            given={"family": 6},
            expect=Observation(connected=False, outcome="pending", time_wait_left=1),
        ),
    },
    remedies={
        "one-second": Arm(
            Settings(rfc1337=True, time_wait_s=1), expect=Observation(connected=True, outcome="", time_wait_left=0)
        ),
        "timestamps": Arm(
            Settings(rfc1337=True, timestamps=1),
            expect=Observation(connected=True, resets=0, syns=1, outcome="", time_wait_left=0),
        ),
    },
    reads="RFC 1337 section 3, fix F1; RFC 9293 section 3.6.1, MAY-2; RFC 6191; Linux net/ipv4/tcp_minisocks.c "
    "(tcp_timewait_state_process)",
)
def rfc1337_cost(lab: Lab, *, family: int = 4) -> Observation:
    """With tcp_rfc1337, a client whose SYN does not please the server's TIME_WAIT cannot connect
    until that runs out.

    Servers that close first hold TIME_WAIT, and clients come back to it: from the same port, or
    from another machine whose NAT gateway hands out the same port. Linux lets the SYN in if its
    sequence number or its timestamp is higher than the last one seen. If neither is, the server
    answers with an acknowledgement, and the client, which knows of no connection, with a RST. That
    RST is what makes room: TIME_WAIT goes, the client repeats its SYN two ticks of its kernel later
    (Linux 5.6; 8 ms at 250 ticks a second), and is connected.

    With `tcp_rfc1337` the RST is ignored. The same SYN is refused again and again: a connect()
    takes as long as TIME_WAIT has left, 60 s, or fails. Here the sequence number is too low because
    the old connection sent faster than the clock of initial sequence numbers runs; behind NAT it is
    so for every second newcomer, by chance. A short TIME_WAIT makes the blackout short, and
    timestamps, if it is the same client that returns, let it in at once. The lab pins
    `tcp_syn_linear_timeouts` to 0; with 4, Linux's default since 6.5 (`--defaults`), five SYNs are
    refused in the same time and not three.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    listener = server.listen(80, family=family)

    lab.step("A fast transfer, which the server closes first: it is the server that holds TIME_WAIT.")
    opening = wire.copy(match(flags="S"))
    old = client.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept()
    lab.transfer(old, peer, BULK)
    lab.close(peer, old)

    lab.step("The client connects again from the same port.")
    syn = opening.segments[0]
    lab.sleep(0.1)  # so that its timestamp, where it has one, is later than the last
    lab.require(
        isn.starts_at(syn.seq, lab.now_s - syn.at_s) - syn.seq < BULK,
        "its next sequence number lies below the old ones",
    )
    syns = wire.watch(match(flags="S"))
    resets = wire.watch(match(source=client.address(family), having="R"))
    attempt = client.try_connect(server, 80, source_port=40_000, family=family, timeout_s=PATIENCE_S)
    return Observation(
        connected=bool(attempt),
        outcome=attempt.error,
        syns=len(syns.segments),
        resets=len(resets.segments),
        time_wait_left=len(lab.time_wait("server")),
    )
