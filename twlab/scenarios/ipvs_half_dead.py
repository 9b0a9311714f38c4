"""A client comes back on a port whose last connection only the server still holds."""

from twlab import Arm, Lab, Observation, Settings, between, match, scenario

TABLE = "A half-dead connection's port used again"

LIVE = {"old_entry": "ESTABLISHED", "error": ""}
SAME = {**LIVE, "again": "s1", "connect_ms": between(4, 24), "syns": 2}  # challenge ACK, RST, the SYN once more
OTHER = {**LIVE, "again": "s2", "connect_ms": between(0, 1), "syns": 1}
ONE_SECOND = {**LIVE, "again": "s2", "connect_ms": between(996, 1040), "syns": 2}
SILENCE = {"old_entry": "ESTABLISHED", "again": "", "error": "pending", "connect_ms": between(3990, 4100)}
KUBE_PROXY = Settings(ipvs_conn_reuse_mode=1, ipvs_expire_nodest_conn=True, ipvs_conntrack=True)
DRAINED, REMOVED = {"change": "drained"}, {"change": "removed"}


@scenario(
    topology="ipvs",
    base=Settings(ipvs_conn_reuse_mode=1),
    control=Arm(KUBE_PROXY, given={"change": ""}, expect=Observation(**LIVE, again="s2", connect_ms=between(4, 24))),
    treatment={
        "drained": Arm(KUBE_PROXY, given=DRAINED, expect=Observation(**ONE_SECOND)),
        "removed": Arm(KUBE_PROXY, given=REMOVED, expect=Observation(**ONE_SECOND)),
        "removed-ipv6": Arm(KUBE_PROXY, given=REMOVED | {"family": 6}, expect=Observation(**ONE_SECOND)),
        "removed-without-nodest": Arm(Settings(), given=REMOVED, expect=Observation(**SILENCE)),
        "mode-0-drained": Arm(Settings(ipvs_conn_reuse_mode=0), given=DRAINED, expect=Observation(**SAME)),
        "mode-0-removed": Arm(Settings(ipvs_conn_reuse_mode=0), given=REMOVED, expect=Observation(**SILENCE)),
    },
    remedies={
        "no-conntrack-drained": Arm(Settings(ipvs_expire_nodest_conn=True), given=DRAINED, expect=Observation(**OTHER)),
        "no-conntrack-removed": Arm(Settings(ipvs_expire_nodest_conn=True), given=REMOVED, expect=Observation(**OTHER)),
    },
    reads="Linux net/netfilter/ipvs/ip_vs_core.c (ip_vs_in_hook: is_new_conn, expire_nodest_conn, "
    "ip_vs_conn_uses_old_conntrack), Documentation/networking/ipvs-sysctl.rst; RFC 5961 section 4 (challenge ACK); "
    "kubernetes issues 70747, 81775 and 93297",
)
def ipvs_half_dead(lab: Lab, *, change: str = "", family: int = 4) -> Observation:
    """With what kube-proxy sets, a connect that meets the entry of a half-dead connection takes one
    second and two SYNs, when the server of that entry is drained or gone.

    The client lost its end of a connection, and the RST or the FIN that said so was lost: a crash,
    a firewall, a power cut. Server and balancer still hold theirs, the balancer for 900 s. The
    client comes back from the same port. Where the server is in service, its challenge ACK and the
    client's RST clear both within some milliseconds, and the second SYN finds a server (control).

    Where the server has weight 0 or is gone, `expire_nodest_conn=1` drops the entry as the SYN
    comes. Without conntrack the same SYN goes to another server at once (the remedies). With
    `conntrack=1` the packet already belongs to a connection-tracking entry that says otherwise, so
    the balancer drops it, and TCP sends it again a second later. kube-proxy sets both, so a second
    is what its users see. Without `expire_nodest_conn` each SYN is sent to the server of the entry,
    in either mode: an entry in ESTABLISHED is not over. A server that is gone does not answer (arms
    `removed-without-nodest` and `mode-0-removed`): three SYNs go there in 4 s, and four with Linux's
    default since 6.5 (`--defaults`), which the lab pins to 0. One that is drained gets its client
    again (arm `mode-0-drained`).
    """
    client, service, pool = lab["client"], lab.service(family=family), lab.network["balancer"]

    lab.step("The client's connection to s1 is open; the client loses it, and its RST is lost, too.")
    old = service.visit(client, source_port=40_000, ending="")
    lab.require(old.server == "s1", "s1 serves the client")
    lost = lab.wire.drop(match(having="R"))
    assert old.near
    old.near.abort()
    lab.sleep(0.5)
    lost.stop()
    (entry,) = lab.balanced()

    lab.step(f"The server is {change or 'left as it is'}. The client connects again from the same port.")
    if change == "drained":
        pool.weigh("s1", 0)
    elif change == "removed":
        pool.remove("s1")
    syns = lab.wire.watch(match(flags="S"))
    again = service.visit(client, source_port=40_000)
    here = lab.settings["balancer"]
    lab.row(
        TABLE,
        mode=here.ipvs_conn_reuse_mode,
        expire_nodest=bool(here.ipvs_expire_nodest_conn),
        conntrack=bool(here.ipvs_conntrack),
        server_is=change or "as it was",
        answered_by=again.server or "none",
        connect_ms=again.ms,
        syns=len(syns.segments),
    )
    return Observation(
        old_entry=entry.state, again=again.server, error=again.error, connect_ms=again.ms, syns=len(syns.segments)
    )
