"""A few client ports, and servers that share a load unequally."""

from twlab import Arm, Lab, Observation, Settings, between, scenario

TABLE = "Connections from few client ports, by server"

EQUAL = {"served": 40, "busiest": between(18, 22)}
ALL_TO_ONE = {"served": 40, "busiest": 40}


@scenario(
    topology="ipvs,scheduler={scheduler},persistent_s={persistent_s}",
    base=Settings(ipvs_conn_reuse_mode=1),
    control=Arm(Settings(), expect=Observation(**EQUAL)),
    treatment={
        "mode-0": Arm(Settings(ipvs_conn_reuse_mode=0), given={"drained": True}, expect=Observation(**ALL_TO_ONE)),
        "mode-0-ipv6": Arm(
            Settings(ipvs_conn_reuse_mode=0), given={"drained": True, "family": 6}, expect=Observation(**ALL_TO_ONE)
        ),
        "persistent": Arm(Settings(), given={"persistent_s": 300}, expect=Observation(**ALL_TO_ONE)),
        "persistent-ipv6": Arm(Settings(), given={"persistent_s": 300, "family": 6}, expect=Observation(**ALL_TO_ONE)),
        "mode-0-lasts": Arm(
            Settings(ipvs_conn_reuse_mode=0),
            given={"drained": True, "pause_s": 10.0},
            expect=Observation(**ALL_TO_ONE, lasted_s=between(400, 410)),
        ),
    },
    remedies={
        "nodest": Arm(
            Settings(ipvs_conn_reuse_mode=0, ipvs_expire_nodest_conn=True),
            given={"drained": True},
            expect=Observation(served=40, to_drained=0),
        ),
        "mode-1": Arm(Settings(), given={"drained": True}, expect=Observation(served=40, to_drained=0)),
    },
    reads="Linux net/netfilter/ipvs/ip_vs_core.c (is_new_conn_expected, ip_vs_sched_persist), "
    "Documentation/networking/ipvs-sysctl.rst; kubernetes issue 81775; kube-router issue 544",
)
def ipvs_unequal_load(
    lab: Lab,
    *,
    scheduler: str = "rr",
    persistent_s: int = 0,
    drained: bool = False,
    pause_s: float = 0.0,
    family: int = 4,
) -> Observation:
    """A client that goes round few ports gives all its connections to one server, drained or not,
    when the balancer's conn_reuse_mode is 0 or the service is persistent.

    Forty connections from four source ports. With Linux's defaults the two servers share them
    (control). With mode 0 each port stays with the server of its first connection, for as long as it
    is used at least every 120 s: here four ports met s1, the other server then joined, s1 was
    drained, and s1 still gets all forty, at one connection in ten seconds for 400 s as well (arm
    `mode-0-lasts`). A service with persistence does so by intention, for a client's address.

    What decides is ports, not connections: a client with 28,000 of them comes round in a minute at
    500 connections a second, so a large client does this to a balancer as a small one does.

    `expire_nodest_conn=1`, or mode 1, sends none to the drained server.
    """
    client, service, pool = lab["client"], lab.service(family=family), lab.network["balancer"]
    ports = range(40_000, 40_004)
    if drained:
        lab.step("Each port's first connection goes to s1, the only server; then s2 joins, and s1 is drained.")
        pool.remove("s2")
        for port in ports:
            lab.require(service.visit(client, source_port=port).server == "s1", "s1 serves the client")
        pool.add("s2")
        pool.weigh("s1", 0)

    lab.step("Forty connections, from four source ports in turn.")
    began_s, visits = lab.now_s, []
    for number in range(40):
        visits.append(service.visit(client, source_port=ports[number % len(ports)]))
        lab.sleep(pause_s)
    shares = service.shares(visits)
    lab.row(TABLE, mode=lab.settings["balancer"].ipvs_conn_reuse_mode, persistent_s=persistent_s, **shares)
    return Observation(
        served=sum(shares.values()),
        busiest=max(shares.values()),
        to_drained=shares["s1"] if drained else None,
        lasted_s=round(lab.now_s - began_s),
    )
