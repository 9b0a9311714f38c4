"""A gateway that keeps its ports at rest, and one that does not."""

from twlab import Arm, Lab, Observation, Settings, between, scenario
from twlab.segment import match

TABLE = "Sixteen connects of a second client, after sixteen of the first"
FEW, MANY = "40000-40015", "40000-40127"
STUMBLES = {"served": between(11, 16), "late": between(8, 16), "rested": 0}


@scenario(
    topology="nat,clients=2,ports={ports}",
    base=Settings(timestamps=2),
    control=Arm(
        Settings(), given={"ports": MANY, "rest": True}, expect=Observation(served=16, late=0, rested=16, first_again=1)
    ),
    treatment={
        "few-ports": Arm(Settings(), expect=Observation(**STUMBLES)),
        "few-ports-ipv6": Arm(Settings(), given={"family": 6}, expect=Observation(**STUMBLES)),
        "few-ports-rest": Arm(
            Settings(), given={"rest": True}, expect=Observation(served=0, late=0, rested=16, first_again=1)
        ),
        "few-ports-rest-ipv6": Arm(
            Settings(), given={"rest": True, "family": 6}, expect=Observation(served=0, late=0, rested=16, first_again=1)
        ),
    },
    remedies={
        "rest-60-s": Arm(
            Settings(nat_time_wait_s=60), given={"rest": True, "pause_s": 62.5}, expect=Observation(served=16, late=0)
        ),
    },
    reads="Linux net/netfilter/nf_nat_core.c (nf_nat_used_tuple_harder), net/netfilter/nf_conntrack_netlink.c "
    "(ctnetlink_change_status, IPS_FIXED_TIMEOUT); RFC 6888 section 3, REQ-8; golang issue 52545",
)
def nat_rest(
    lab: Lab, *, ports: str = FEW, rest: bool = False, pause_s: float = 1.0, family: int = 4
) -> Observation:
    """A gateway with few ports that keeps them at rest leaves its other clients without any; one that
    does not hands them on, and those clients stumble over the server's TIME_WAIT.

    Linux gives the port of a closed connection away where ports are short (`nat-port-scarcity`). A
    second client, whose clock is behind, then meets the TIME_WAIT that the first one left at the
    server: late by some 10 ms (arm `few-ports`), or shut out where a segment is lost
    (`nat-second-client`).

    Cloud gateways rest their ports: 60 to 120 s, however high the demand. Here a program does so on
    Linux. It sets IPS_FIXED_TIMEOUT on each entry that comes to TIME_WAIT, over ctnetlink. In a block
    of sixteen the second client is not served at all (arm `few-ports-rest`): its SYNs meet silence
    until the timers end, which users see as timeouts of connect. The first client itself may come
    back to its own ports at once (`first_again`). With 128 ports all is well (control): resting is
    right where the block is large enough for the rate times the rest.

    A rest as long as the server's TIME_WAIT is enough (remedy `rest-60-s`).
    """
    first, second, server = lab["c1"], lab["c2"], lab["server"]
    listener = server.listen(80, family=family)
    lab.shift_clocks({"c1": 3600.0})
    if rest:
        lab.rest_ports("nat")

    lab.step("The first client uses sixteen of the gateway's ports; the server closes first, and is in TIME_WAIT for each.")
    while len(lab.conntrack("nat")) < 16:
        lab.require(lab.visit(first, server, listener, 0.2), "the first client is served")
        lab.sleep(0.02)
    lab.sleep(pause_s)
    rested = sum(entry.fixed for entry in lab.conntrack("nat"))

    lab.step("Sixteen connections of the second client, whose clock is behind.")
    taken = [second.try_connect(server, 80, family=family, timeout_s=0.2) for _ in range(16)]
    served = sum(map(bool, taken))
    late = sum(attempt.took_s > 0.001 for attempt in taken if attempt)

    lab.step("The first client comes back from a port that it had.")
    (entry, *_) = [entry for entry in lab.conntrack("nat") if entry.original.source == first.address(family)] or [None]
    again = bool(entry) and bool(
        first.try_connect(server, 80, source_port=entry.original.source_port, family=family, timeout_s=0.2)
    )
    lab.row(TABLE, ports=ports, rest=rest, pause_s=pause_s, served=served, late=late)
    return Observation(served=served, late=late, rested=rested, first_again=int(again))
