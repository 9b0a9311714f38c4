"""A client reuses a source port, and IP Virtual Server still knows it."""

from twlab import Arm, Lab, Observation, Settings, at_most, between, scenario

TABLE = "A source port used again, and the balancer's entry of its last connection"

ANEW = {"first": "s1", "again": "s2", "error": "", "connect_ms": at_most(1)}
OLD = {"first": "s1", "again": "s1", "error": "", "connect_ms": at_most(1)}
SILENCE = {"first": "s1", "again": "", "error": "pending", "connect_ms": between(3990, 4100)}
MODE_0 = Settings(ipvs_conn_reuse_mode=0)
MODE_0_NODEST = Settings(ipvs_conn_reuse_mode=0, ipvs_expire_nodest_conn=True)
DRAINED, REMOVED = {"change": "drained"}, {"change": "removed"}


@scenario(
    topology="ipvs",
    base=Settings(ipvs_conn_reuse_mode=1),
    control=Arm(Settings(), given=DRAINED, expect=Observation(state="TIME_WAIT", timer_s=between(118, 120), **ANEW)),
    treatment={
        "mode-0-drained": Arm(MODE_0, given=DRAINED, expect=Observation(state="TIME_WAIT", **OLD)),
        "mode-0-drained-ipv6": Arm(MODE_0, given=DRAINED | {"family": 6}, expect=Observation(state="TIME_WAIT", **OLD)),
        "mode-0-removed": Arm(MODE_0, given=REMOVED, expect=Observation(state="TIME_WAIT", **SILENCE)),
        "mode-0-removed-ipv6": Arm(
            MODE_0, given=REMOVED | {"family": 6}, expect=Observation(state="TIME_WAIT", **SILENCE)
        ),
        "mode-0-reset-removed": Arm(
            MODE_0,
            given=REMOVED | {"ending": "reset"},
            expect=Observation(state="CLOSE", timer_s=between(8, 10), **SILENCE),
        ),
    },
    remedies={
        "nodest-drained": Arm(MODE_0_NODEST, given=DRAINED, expect=Observation(**ANEW)),
        "nodest-removed": Arm(MODE_0_NODEST, given=REMOVED, expect=Observation(**ANEW)),
        "mode-1-removed": Arm(Settings(), given=REMOVED, expect=Observation(**ANEW)),
        "after-the-timer": Arm(MODE_0, given=REMOVED | {"pause_s": 125.0}, expect=Observation(**ANEW)),
    },
    reads="Linux net/netfilter/ipvs/ip_vs_core.c (ip_vs_in_hook, is_new_conn, is_new_conn_expected), "
    "ip_vs_proto_tcp.c (tcp_timeouts), Documentation/networking/ipvs-sysctl.rst (conn_reuse_mode, "
    "expire_nodest_conn); kubernetes issue 81775; kube-router issue 544",
)
def ipvs_port_reuse(
    lab: Lab, *, change: str = "", ending: str = "server", pause_s: float = 0.0, family: int = 4
) -> Observation:
    """With conn_reuse_mode=0, IP Virtual Server sends a client that uses a source port again to the
    server of that port's last connection: also when that server shall get no connections any more,
    and into silence when it has been removed.

    The balancer remembers a closed connection for 120 s after FINs, and for 10 s after a RST, twice
    the TIME_WAIT of its hosts and a sixth. A SYN with the same addresses and ports belongs to that
    entry, unless conn_reuse_mode=1, Linux's default, sees that the old connection is over and
    chooses anew (control: the server has weight 0, and the other one answers).

    kube-proxy set the mode to 0 because mode 1 cost a second on kernels before 5.9, and from 5.9 on
    leaves it alone. A busy client has some 28,000 ports to one address, so at 500 connections a
    second each of them comes again within a minute: a server that is drained gets connections for
    as long as the load lasts, since each renews its entry. One that is removed answers no client.

    `expire_nodest_conn=1` is enough in either mode: an entry whose server is gone, or has weight 0,
    is dropped as the SYN comes, and the SYN goes elsewhere at once.

    Args: `change` is what happens to the server in between: ``drained`` (weight 0), ``removed``, or
    nothing.
    """
    client, service, pool = lab["client"], lab.service(family=family), lab.network["balancer"]

    lab.step("The client's first connection, which the balancer gives to s1, is opened and closed.")
    first = service.visit(client, source_port=40_000, ending=ending)
    lab.require(first, "the client is served")
    (entry,) = lab.balanced()

    lab.step(f"The server is {change or 'left as it is'}. The client connects again from the same port.")
    if change == "drained":
        pool.weigh(first.server, 0)
    elif change == "removed":
        pool.remove(first.server)
    lab.sleep(pause_s)
    again = service.visit(client, source_port=40_000)
    lab.row(
        TABLE,
        mode=lab.settings["balancer"].ipvs_conn_reuse_mode,
        expire_nodest=bool(lab.settings["balancer"].ipvs_expire_nodest_conn),
        entry=entry.state,
        server_is=change or "as it was",
        answered_by=again.server or "none",
        connect_ms=again.ms,
    )
    return Observation(
        state=entry.state,
        timer_s=entry.remaining_s,
        first=first.server,
        again=again.server,
        error=again.error,
        connect_ms=again.ms,
    )
