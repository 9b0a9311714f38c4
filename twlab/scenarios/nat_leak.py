"""A private address on the public side of a gateway."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.linux import nftables
from twlab.segment import Flow, match

DROP_INVALID = (
    "table inet careful { chain forward { type filter hook forward priority filter; ct state invalid drop; }; }"
)


@scenario(
    topology="nat",
    base=Settings(nat_time_wait_s=1, nat_loose=False),
    control=Arm(Settings(nat_time_wait_s=120), expect=Observation(leaked=0, translated=1)),
    treatment={
        "forgotten": Arm(Settings(), expect=Observation(leaked=1, translated=0)),
        "forgotten-ipv6": Arm(Settings(), given={"family": 6}, expect=Observation(leaked=1, translated=0)),
    },
    remedies={
        "loose": Arm(Settings(nat_loose=True), expect=Observation(leaked=0, translated=1)),
        "drop-invalid": Arm(Settings(), given={"drop_invalid": True}, expect=Observation(leaked=0, translated=0)),
    },
    reads="Linux net/netfilter/nf_conntrack_proto_tcp.c (tcp_new), "
    "Documentation/networking/nf_conntrack-sysctl.rst (nf_conntrack_tcp_loose); "
    "RFC 6888; RFC 2827 (ingress filtering)",
)
def nat_leak(lab: Lab, *, drop_invalid: bool = False, family: int = 4) -> Observation:
    """A late segment of a connection that the NAT gateway has forgotten leaves it untranslated,
    with the client's private address.

    Translation belongs to a connection that is tracked. A segment in the middle of none is INVALID
    to a strict connection tracking (`nf_conntrack_tcp_loose=0`), an INVALID segment passes the
    translation by, and the gateway forwards it, unless a rule forbids that. The client's own
    TIME_WAIT lasts 60 s, in which it may still send: an acknowledgement of a FIN that comes again.
    The longer the gateway remembers, the fewer of its segments are late (control: 120 s, Linux's
    default).

    By default Linux is loose: it takes such a segment for the first of a connection that it joins
    midway, and translates it. A rule that drops what is invalid stops it, as does every router
    upstream that filters by source address.

    The segment is the client's last one, seen outside and put back inside the gateway under the
    client's own address, as if its way had been long.
    """
    client, server, nat = lab["client"], lab["server"], lab.network["nat"]
    if drop_invalid:
        with nat.inside():
            nftables.apply(DROP_INVALID)
    listener = server.listen(80, family=family)

    lab.step("A connection, which the client closes first; the wire keeps a copy of the client's last segment.")
    from_client = lab.wire.watch(match(destination=server.address(family)))
    connection = client.connect(server, 80, source_port=40_000, family=family)
    lab.close(connection, listener.accept())
    last = from_client.segments[-1]
    from_client.stop()

    lab.step(
        "The gateway forgets it, if its timer is shorter than 2 s. Then the copy arrives at the gateway, from inside."
    )
    lab.sleep(2.5)
    leaked = lab.wire.watch(match(source=client.address(family)))
    translated = lab.wire.watch(match(source=last.source, destination=server.address(family)))
    inside = Flow(client.address(family), 40_000, server.address(family), 80)
    lab.wire.inject(lab.wire.craft(like=last, flow=inside), into=nat.interface_to("client"))
    lab.sleep(0.3)
    return Observation(leaked=len(leaked.segments), translated=len(translated.segments))
