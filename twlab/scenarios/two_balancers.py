"""Connections that move from one balancer to another."""

from twlab import Arm, Lab, Observation, Settings, between, scenario

TABLE = "Open connections whose packets move to another balancer"

MOVED = {"moved": True}
ALL = {"delivered": 40, "reset": 0, "silent": 0}
HALF = {"delivered": between(5, 35), "reset": between(5, 35), "silent": 0}
NONE = {"delivered": 0, "reset": 0, "silent": 40}


@scenario(
    topology="two-balancers,choice={choice}",
    control=Arm(Settings(), expect=Observation(**ALL)),
    treatment={
        "random": Arm(Settings(), given=MOVED, expect=Observation(**HALF)),
        "random-ipv6": Arm(Settings(), given=MOVED | {"family": 6}, expect=Observation(**HALF)),
        "random-strict": Arm(Settings(nat_loose=False), given=MOVED, expect=Observation(**NONE)),
        "random-liberal": Arm(Settings(nat_be_liberal=True), given=MOVED, expect=Observation(**HALF)),
        "hash-strict": Arm(Settings(nat_loose=False), given=MOVED | {"choice": "hash"}, expect=Observation(**NONE)),
    },
    remedies={"hash": Arm(Settings(), given=MOVED | {"choice": "hash"}, expect=Observation(**ALL))},
    reads="Linux net/netfilter/nf_conntrack_proto_tcp.c (tcp_new: loose), net/netfilter/nft_hash.c; "
    "RFC 2992 (what a hash moves when the number of next hops changes)",
)
def two_balancers(lab: Lab, *, choice: str = "random", moved: bool = False, family: int = 4) -> Observation:
    """An open connection whose packets move to another balancer is reset as often as that one
    chooses another server, and hangs where connection tracking is strict; it lives where both
    balancers choose by the same hash.

    Routers spread packets over balancers, and change their mind when one comes or goes. The second
    balancer has no entry. Linux's connection tracking is loose by default: it joins the connection
    midway, and the balancer chooses a server for what it takes for a new connection. Of two servers
    the other one has no such connection, and answers with a RST: half of 40 (arm `random`; its
    bounds fail once in a million runs). With `nf_conntrack_tcp_loose=0` the segment is INVALID and
    not translated, so it reaches no server, and the client sends it again until it gives up.

    A hash of address and port, with the same key in both, chooses the server that was chosen before,
    and the connection does not notice, if connection tracking is loose. `be_liberal` is about
    windows, and changes nothing.
    """
    client, service = lab["client"], lab.service("lb1", family=family)

    lab.step("Forty connections are open, through the first balancer.")
    visits = [service.visit(client, ending="") for _ in range(40)]
    ends = [(visit.near, visit.far) for visit in visits if visit.near and visit.far]
    lab.require(len(ends) == 40, "all are served")

    lab.step("Their packets move to the second balancer." if moved else "Their packets stay where they are.")
    if moved:
        for router in ("edge", "inner"):
            lab.network[router].point_at("lb2")

    lab.step("The client sends on each of them.")
    for near, _ in ends:
        near.send(b"still there?")
    lab.sleep(1)
    delivered = sum(far.received == 12 for _, far in ends)
    reset = sum(near.error == "ECONNRESET" for near, _ in ends)
    facts = {"delivered": delivered, "reset": reset, "silent": len(ends) - delivered - reset}
    lab.row(TABLE, chosen_by=choice, moved=moved, loose=lab.settings["lb1"].nat_loose is not False, **facts)
    return Observation(**facts)
