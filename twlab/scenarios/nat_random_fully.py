"""A gateway rewrites the ports of a client with one timestamp clock a connection.

The server meets those clocks on one four-tuple.
"""

from statistics import median

from twlab import Arm, Lab, Observation, Settings, at_least, between, scenario, since
from twlab.segment import match

CONNECTS = 40
PATIENCE_S = 2.5  # for a SYN and two retransmissions of it
TABLE = "One client's connects through a gateway that rewrites ports"

EVICTS = "6.5"  # Linux: nf_nat_used_tuple_harder gives away ports at rest; before, each is used once
SMOOTH = {"bounced": 0, "refused_as_old": 0}
REUSED = {"connected": since(EVICTS, CONNECTS, before=16), "into_time_wait": since(EVICTS, at_least(20), before=0)}
BOUNCING = Observation(
    connected=since(EVICTS, between(30, CONNECTS), before=16),
    into_time_wait=since(EVICTS, at_least(20), before=0),
    bounced=since(EVICTS, between(2, 28), before=0),
)


@scenario(
    topology="nat,ports={ports},random_fully={random_fully}",
    base=Settings(timestamps=1, time_wait_s=60),
    control=Arm(Settings(), given={"ports": ""}, expect=Observation(**SMOOTH, connected=CONNECTS, into_time_wait=0)),
    treatment={
        "random-fully": Arm(Settings(), given={"random_fully": 1}, expect=BOUNCING),
        "block": Arm(Settings(), expect=BOUNCING),
        "block-ipv6": Arm(Settings(), given={"family": 6}, expect=BOUNCING),
    },
    remedies={
        "one-clock": Arm(Settings(), on={"client": Settings(timestamps=2)}, expect=Observation(**SMOOTH, **REUSED)),
        "no-timestamps": Arm(Settings(), on={"client": Settings(timestamps=0)}, expect=Observation(**SMOOTH, **REUSED)),
    },
    reads="Linux net/core/secure_seq.c (secure_tcp_seq_and_ts_off), net/ipv4/tcp_minisocks.c "
    "(tcp_timewait_state_process), "
    "net/ipv4/tcp_input.c (tcp_rcv_synsent_state_process), net/netfilter/nf_nat_core.c "
    "(nf_nat_used_tuple_harder); RFC 7323 section 5.4; RFC 6191",
)
def nat_random_fully(lab: Lab, *, ports: str = "40000-40015", random_fully: int = 0, family: int = 4) -> Observation:
    """Behind a NAT gateway that rewrites ports, half of one client's own connects bounce off the
    TIME_WAIT of its earlier ones, where its kernel gives each connection a timestamp offset of its
    own.

    The offset belongs to the four-tuple inside, and the server sees the one outside. When the
    gateway uses an outside port again, the new SYN's timestamp has nothing to do with the one that
    the server's TIME_WAIT remembers, and is older with probability 1/2. Then it is answered by an
    acknowledgement of the old connection, the client resets that, and sends its SYN again some 12
    ms later. That SYN may be given another outside port, and bounce again; a client is quick only
    once, so this connect takes 2 s (`worst_ms`), and 6 s if it bounces a third time: more than the
    2.5 s that it is given here, so that some do not come about at all.

    It needs no second client. A gateway that keeps the client's ports has no such trouble
    (control), because ports and offsets then go together. Here the gateway has sixteen ports,
    chosen in order or at random (arm `random-fully`), so that each is soon used again; with all
    64,512 it happens as often as the server still has the port in TIME_WAIT.

    With one clock for all connections every SYN is newer (arm `one-clock`). Without timestamps the
    sequence number decides, and the gateway has seen to it: it takes a port from a connection in
    TIME_WAIT only for a SYN whose number is beyond (arm `no-timestamps`).

    Linux has offsets for each connection since March 2026 (and had them in 4.10); kernels in
    between give one to a pair of addresses. What this kernel does is looked at in the SYNs: where
    all have one clock, nothing follows, and the verdict says so. A gateway with Linux before 6.5
    gives no port away that rests, so that none is used twice: the seventeenth connect and all after
    it find no port, and their SYNs never come to the wire.
    """
    client, server = lab["client"], lab["server"]
    listener = server.listen(80, family=family)
    syns = lab.wire.watch(match(destination_port=80, flags="S"))

    lab.step(f"The client connects {CONNECTS} times, each time from a new port of its own; the server closes first.")
    waiting: set[int] = set()  # outside ports for which the server has a TIME_WAIT
    took_s: list[float] = []
    hits = bounced = 0
    for _ in range(CONNECTS):
        before = len(syns.segments)
        attempt = client.try_connect(server, 80, family=family, timeout_s=PATIENCE_S)
        tried = [syn.source_port for syn in syns.segments[before:]]
        hits += sum(port in waiting for port in tried)
        unlucky = tried[:-1] if attempt else tried
        bounced += len(unlucky)
        waiting -= set(unlucky)
        if attempt.connection:
            lab.close(listener.accept(), attempt.connection)
            took_s.append(attempt.took_s)
            waiting.add(tried[-1])

    clocks = {(syn.timestamp[0] - round(syn.at_s * 1000)) % 2**32 // 10_000 for syn in syns.segments if syn.timestamp}
    if lab.settings["client"].timestamps == 1:
        lab.require(len(clocks) > 2, "this kernel gives each connection a timestamp offset of its own")
    facts = {"connected": len(took_s), "into_time_wait": hits, "bounced": bounced}
    times_ms = {"median_ms": round(median(took_s) * 1000, 3), "worst_ms": round(max(took_s) * 1000, 3)}
    lab.row(TABLE, timestamps=lab.settings["client"].timestamps, **facts, **times_ms)
    return Observation(**facts, refused_as_old=lab.moved("server", "PAWSEstab") + lab.moved("server", "PAWSTimewait"))
