"""One source port, to a virtual address and to the server, by connection tracking."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.segment import match

TABLE = "The source port that the server sees"


@scenario(
    topology="dnat,servers=1",
    control=Arm(Settings(), given={"second_port": 40_001}, expect=Observation(connected=True, rewritten=0, counters=0)),
    treatment={
        "direct-second": Arm(Settings(), expect=Observation(connected=True, syns=1, rewritten=1, counters=0)),
        "direct-second-ipv6": Arm(
            Settings(), given={"family": 6}, expect=Observation(connected=True, rewritten=1, counters=0)
        ),
        "virtual-second": Arm(
            Settings(), given={"direct_first": True}, expect=Observation(connected=True, rewritten=1, counters=0)
        ),
    },
    remedies={
        "after-the-timer": Arm(
            Settings(nat_time_wait_s=1),
            given={"close": True, "pause_s": 2.5},
            expect=Observation(connected=True, rewritten=0),
        ),
    },
    reads="Linux net/netfilter/nf_nat_core.c (get_unique_tuple, nf_nat_inet_fn: every new connection gets a null "
    "binding once there is a NAT chain)",
)
def dnat_port_rewrite(
    lab: Lab,
    *,
    second_port: int = 40_000,
    direct_first: bool = False,
    close: bool = False,
    pause_s: float = 0.0,
    family: int = 4,
) -> Observation:
    """A balancer by destination NAT rewrites a client's source port without a word, although it has
    no rule for sources, when the client uses one port for the virtual address and for the server
    behind it.

    To the client these are two four-tuples, to the server one. Connection tracking must tell the
    server's answers apart, so the later connection gets another source port. Both work, and no
    counter moves. What counts on ports, an allow list, a log, a packet capture on both sides, a
    protocol with the port in its data, sees a port that no client used.

    The first connection need not be open: its entry in TIME_WAIT, 120 s, is enough. When it is gone
    the port is kept (arm `after-the-timer`).
    """
    client, service, server = lab["client"], lab.service(family=family), lab["s1"]
    ways = [("direct", server), ("virtual", None)]
    (_, first_to), (name, second_to) = ways if direct_first else reversed(ways)

    lab.step("The client's first connection.")
    first = service.visit(client, source_port=40_000, to=first_to, ending="client" if close else "")
    lab.require(first, "the client is served")
    lab.sleep(pause_s)

    lab.step(f"From port {second_port} it connects to the {name} address.")
    syns = lab.wire.watch(match(flags="S"))
    second = service.visit(client, source_port=second_port, to=second_to, ending="")
    seen = second.far.flow.destination_port if second.far else None
    lab.row(TABLE, second_to=name, used=syns.segments[0].source_port, seen=seen, connect_ms=second.ms)
    return Observation(
        connected=bool(second),
        syns=len(syns.segments),
        rewritten=int(seen not in (None, second_port)),
        counters=sum(lab.moved("balancer", f"Conntrack{name}") for name in ("Drop", "InsertFailed", "Invalid")),
    )
