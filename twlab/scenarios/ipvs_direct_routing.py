"""Servers that answer clients themselves, and a balancer that sees one half of it."""

from twlab import Arm, Lab, Observation, Settings, at_most, between, scenario

TABLE = "What a balancer remembers of a closed connection, by the way it forwards"

MODE_1, MODE_2 = Settings(ipvs_conn_reuse_mode=1), Settings(ipvs_conn_reuse_mode=2)
NODEST = Settings(ipvs_conn_reuse_mode=1, ipvs_expire_nodest_conn=True)
DIRECT, TUNNEL = {"forwarding": "direct"}, {"forwarding": "tunnel"}
ANEW = {"again": "s2", "error": "", "connect_ms": at_most(1)}
OLD = {"state": "FIN_WAIT", "timer_s": between(118, 120), "again": "s1", "error": "", "connect_ms": at_most(1)}
SILENCE = {"state": "FIN_WAIT", "again": "", "error": "pending"}


@scenario(
    topology="ipvs,forwarding={forwarding}",
    control=Arm(MODE_1, expect=Observation(state="TIME_WAIT", **ANEW)),
    treatment={
        "direct": Arm(MODE_1, given=DIRECT, expect=Observation(**OLD)),
        "direct-ipv6": Arm(MODE_1, given=DIRECT | {"family": 6}, expect=Observation(**OLD)),
        "tunnel": Arm(MODE_1, given=TUNNEL, expect=Observation(**OLD)),
        "tunnel-ipv6": Arm(MODE_1, given=TUNNEL | {"family": 6}, expect=Observation(**OLD)),
        "direct-removed": Arm(MODE_1, given=DIRECT | {"change": "removed"}, expect=Observation(**SILENCE)),
    },
    remedies={
        "mode-2": Arm(MODE_2, given=DIRECT, expect=Observation(state="FIN_WAIT", **ANEW)),
        "mode-2-tunnel": Arm(MODE_2, given=TUNNEL, expect=Observation(state="FIN_WAIT", **ANEW)),
        "mode-2-tunnel-ipv6": Arm(MODE_2, given=TUNNEL | {"family": 6}, expect=Observation(state="FIN_WAIT", **ANEW)),
        "nodest-removed": Arm(
            NODEST, given=DIRECT | {"change": "removed"}, expect=Observation(state="FIN_WAIT", **ANEW)
        ),
        "reset": Arm(MODE_1, given=DIRECT | {"ending": "reset"}, expect=Observation(state="CLOSE", **ANEW)),
    },
    reads="Linux net/netfilter/ipvs/ip_vs_core.c (is_new_conn_expected), ip_vs_proto_tcp.c (set_tcp_state, "
    "IP_VS_CONN_F_NOOUTPUT), Documentation/networking/ipvs-sysctl.rst (conn_reuse_mode)",
)
def ipvs_direct_routing(
    lab: Lab, *, forwarding: str = "masquerade", change: str = "drained", ending: str = "server", family: int = 4
) -> Observation:
    """Where servers answer clients themselves, by direct routing or through a tunnel, Linux's
    default conn_reuse_mode=1 still sends a reused source port to the server that is drained, and
    into silence when it is removed.

    The balancer sees the client's half only. After a close it has seen one FIN, so its entry is in
    FIN_WAIT for 120 s, and never in TIME_WAIT. Mode 1 chooses a server anew for entries in TIME_WAIT
    and CLOSE; that is enough where all segments pass the balancer (control).

    Mode 2 adds entries in FIN_WAIT of connections whose other half it does not see. It, or
    `expire_nodest_conn=1`, is what such a balancer needs. A connection that the client resets ends
    in CLOSE, which mode 1 takes for over (arm `reset`).
    """
    client, service, pool = lab["client"], lab.service(family=family), lab.network["balancer"]

    lab.step("The client's first connection, to s1, is opened and closed.")
    first = service.visit(client, source_port=40_000, ending=ending)
    lab.require(first.server == "s1", "s1 serves the client")
    (entry,) = lab.balanced()

    lab.step(f"The server is {change}. The client connects again from the same port.")
    if change == "drained":
        pool.weigh("s1", 0)
    else:
        pool.remove("s1")
    again = service.visit(client, source_port=40_000)
    facts = {"state": entry.state, "timer_s": entry.remaining_s, "again": again.server, "connect_ms": again.ms}
    mode = lab.settings["balancer"].ipvs_conn_reuse_mode
    lab.row(TABLE, forwarding=forwarding, family=family, mode=mode, ended_by=ending, server_is=change, **facts)
    return Observation(**facts, error=again.error)
