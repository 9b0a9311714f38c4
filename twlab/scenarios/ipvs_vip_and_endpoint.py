"""One source port, to a virtual address and to a server behind it."""

from twlab import Arm, Lab, Observation, Settings, at_most, scenario
from twlab.linux import nftables

TABLE = "One source port to the virtual address and to the server behind it"
TRANSLATES = "table ip nat { chain out { type nat hook postrouting priority srcnat; }; }"  # as with any rule in it

BOTH = {"second": True, "error": "", "connect_ms": at_most(30)}
NEVER = {"second": False, "error": "pending"}


@scenario(
    topology="ipvs,servers=1",
    control=Arm(Settings(), given={"second_port": 40_001}, expect=Observation(**BOTH, first_lives=True)),
    treatment={
        "direct-second": Arm(Settings(), expect=Observation(**NEVER)),
        "direct-second-conntrack": Arm(Settings(ipvs_conntrack=True), expect=Observation(**NEVER)),
        "direct-second-ipv6": Arm(Settings(), given={"family": 6}, expect=Observation(**NEVER)),
        "virtual-second-conntrack": Arm(
            Settings(ipvs_conntrack=True), given={"direct_first": True}, expect=Observation(**NEVER)
        ),
    },
    remedies={
        "virtual-second": Arm(Settings(), given={"direct_first": True}, expect=Observation(**BOTH, first_lives=False)),
        "virtual-second-nat-chain": Arm(
            Settings(ipvs_conntrack=True),
            given={"direct_first": True, "nat_chain": True},
            expect=Observation(**BOTH, first_lives=True),
        ),
    },
    reads="Linux net/netfilter/ipvs/ip_vs_core.c (handle_response, ip_vs_conn_out_get), ip_vs_nfct.c; "
    "kubernetes issue 90042",
)
def ipvs_vip_and_endpoint(
    lab: Lab, *, direct_first: bool = False, second_port: int = 40_000, nat_chain: bool = False, family: int = 4
) -> Observation:
    """A client that has connected to a virtual address cannot connect from the same source port to
    the server behind it: the balancer makes the server's answers the virtual address's, and the
    client never sees its own.

    The two are different four-tuples to the client, so its kernel may choose one port for both. To
    the server they are one. The balancer masquerades in one direction: an answer of the server that
    fits an entry gets the virtual address as its source, also if it answers a direct connection.
    While the balancer remembers the first, which is 900 s for an open connection, the second meets
    silence, with and without conntrack.

    The other way round, virtual after direct, is no better: without conntrack the second connect
    succeeds, and the first connection, whose four-tuple at the server it takes, is reset. With
    conntrack it meets silence. Only where a NAT chain lets connection tracking choose another source
    port do both live (the last remedy). Another port always works (control).
    """
    client, service, server = lab["client"], lab.service(family=family), lab["s1"]
    if nat_chain:
        with lab.network["balancer"].inside():
            nftables.apply(TRANSLATES if family == 4 else TRANSLATES.replace("table ip", "table ip6"))
    ways = [("direct", server), ("virtual", None)]
    (_, first_to), (name, second_to) = ways if direct_first else reversed(ways)

    lab.step("The client's first connection is open.")
    first = service.visit(client, source_port=40_000, to=first_to, ending="")
    lab.require(first, "the client is served")
    assert first.near and first.far

    lab.step(f"From port {second_port} it connects to the {name} address.")
    second = service.visit(client, source_port=second_port, to=second_to, ending="")
    before = first.far.received
    first.near.send(b"still there?")
    first.far.wait_received(before + 12, timeout_s=2)
    lives = first.far.received - before == 12 and not first.near.error
    lab.row(
        TABLE,
        conntrack=bool(lab.settings["balancer"].ipvs_conntrack),
        nat_chain=nat_chain,
        second_to=name,
        connected=bool(second),
        connect_ms=second.ms,
        first_lives=lives,
    )
    return Observation(second=bool(second), error=second.error, connect_ms=second.ms, first_lives=lives)
