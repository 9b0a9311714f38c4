"""A gateway that keeps its ports at rest, and one that does not."""

from twlab import Arm, Lab, Observation, Settings, between, scenario, since
from twlab.linux import conntrack
from twlab.segment import match

TABLE = "Connects of a second client, after sixteen of the first"
FEW, MANY = "40000-40015", "40000-40127"
REST = {"rest": True, "connects": 4}
EVICTS = "6.5"  # Linux: nf_nat_used_tuple_harder gives away ports at rest
STUMBLES = {
    "served": since(EVICTS, between(8, 16), before=0),
    "hurt": since(EVICTS, between(2, 16), before=16),
    "rested": 0,
}


@scenario(
    topology="nat,clients=2,ports={ports}",
    base=Settings(timestamps=2),
    control=Arm(
        Settings(), given={"ports": MANY, "rest": True}, expect=Observation(served=16, hurt=0, rested=16, first_again=1)
    ),
    treatment={
        "few-ports": Arm(Settings(), expect=Observation(**STUMBLES)),
        "few-ports-ipv6": Arm(Settings(), given={"family": 6}, expect=Observation(**STUMBLES)),
        "few-ports-rest": Arm(Settings(), given=REST, expect=Observation(served=0, hurt=4, rested=16, first_again=1)),
        "few-ports-rest-ipv6": Arm(
            Settings(),
            given=REST | {"family": 6},
            expect=Observation(served=0, hurt=4, rested=16, first_again=1),
        ),
    },
    remedies={
        "rest-as-long": Arm(
            Settings(time_wait_s=5, nat_time_wait_s=5),
            given={"rest": True, "pause_s": 6.5},
            expect=Observation(served=16, hurt=0),
        ),
    },
    reads="Linux net/netfilter/nf_nat_core.c (nf_nat_used_tuple_harder), net/netfilter/nf_conntrack_netlink.c "
    "(ctnetlink_change_status, IPS_FIXED_TIMEOUT); RFC 6888 section 3, REQ-8; golang issue 52545",
)
def nat_rest(
    lab: Lab, *, ports: str = FEW, rest: bool = False, pause_s: float = 1.0, connects: int = 16, family: int = 4
) -> Observation:
    """A gateway with few ports that keeps them at rest leaves its other clients without any; one that
    does not hands them on, and those clients stumble over the server's TIME_WAIT.

    Linux gives the port of a closed connection away where ports are short (`nat-port-scarcity`). A
    second client, whose clock is behind, then meets the TIME_WAIT that the first one left at the
    server. Behind a gateway with ports to spare that costs 10 ms (`nat-second-client`). Here it costs
    a second and more (arm `few-ports`): the client's RST brings the gateway's entry to CLOSE, so the
    SYN that follows gets another port, which is in the server's TIME_WAIT as well. How many are
    served within 1.3 s depends on how many SYNs they send: `tcp_syn_linear_timeouts` is pinned to 0
    here, and 4, Linux's default since 6.5 (`--defaults`), serves two more of sixteen or so.

    Linux before 6.5 gives none away: its gateway rests its ports by itself, and the second client
    is not served (arm `few-ports` there).

    Cloud gateways rest their ports: 60 to 120 s, however high the demand. Here a program does so on
    Linux. It sets IPS_FIXED_TIMEOUT on each entry that comes to TIME_WAIT, over ctnetlink. In a block
    of sixteen the second client is not served at all (arm `few-ports-rest`): its SYNs meet silence
    until the timers end, which users see as timeouts of connect. The first client itself may come
    back to its own ports at once (`first_again`). With 128 ports all is well (control): resting is
    right where the block is large enough for the rate times the rest.

    A rest as long as the server's TIME_WAIT is enough (remedy
    `rest-as-long`, of 5 s both).
    """
    first, second, server = lab["c1"], lab["c2"], lab["server"]
    listener = server.listen(80, family=family)
    lab.shift_clocks({"c1": 3600.0})
    if rest:
        lab.rest_ports("nat")

    lab.step(
        "The first client uses sixteen of the gateway's ports; the server closes first, and is in TIME_WAIT for each."
    )
    while conntrack.count(lab.network["nat"]) < 16:
        lab.require(lab.visit(first, server, listener, 0.2), "the first client is served")
        lab.sleep(0.02)
    lab.sleep(pause_s)
    rested = sum(entry.fixed for entry in lab.conntrack("nat"))

    lab.step(f"{connects} connections of the second client, whose clock is behind.")
    syns, taken, needed = lab.wire.watch(match(flags="S")), [], []
    for _ in range(connects):
        before = len(syns.segments)
        taken.append(second.try_connect(server, 80, family=family, timeout_s=1.3))
        needed.append(len(syns.segments) - before)
    served = sum(map(bool, taken))
    hurt = sum(count != 1 for count in needed)  # a SYN that the gateway drops never comes to the wire
    worst_ms = round(max(attempt.took_s for attempt in taken) * 1000)

    lab.step("The first client comes back from a port that it had.")
    mine = [entry for entry in lab.conntrack("nat") if entry.original.source == first.address(family)]
    back = [
        first.try_connect(server, 80, source_port=entry.original.source_port, family=family, timeout_s=0.2)
        for entry in mine[:1]
    ]
    lab.row(
        TABLE, ports=ports, rest=rest, pause_s=pause_s, connects=connects, served=served, hurt=hurt, worst_ms=worst_ms
    )
    return Observation(served=served, hurt=hurt, rested=rested, first_again=sum(map(bool, back)))
