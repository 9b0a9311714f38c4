"""A gateway with a flow table, and the next client on a port that it forgot."""

from twlab import Arm, Lab, Observation, Settings, between, scenario, since
from twlab.segment import match

TABLE = "A closed connection's port at the gateway, and the second client"

REMEMBERS = {"same_port": False, "syns": 1}
STUMBLES = {"same_port": since("7.2", True, before=False), "syns": since("7.2", 2, before=1)}
FLOWTABLE = {"flowtable": 1}


@scenario(
    topology="nat,clients=2,flowtable={flowtable}",
    base=Settings(timestamps=2),
    control=Arm(
        Settings(),
        given={"rest_s": 5.0},
        expect=Observation(entry="TIME_WAIT", timer_s=between(118, 120), **REMEMBERS, connected=True),
    ),
    treatment={
        "flowtable": Arm(Settings(), given=FLOWTABLE, expect=Observation(**STUMBLES, connected=True)),
        "flowtable-ipv6": Arm(
            Settings(), given=FLOWTABLE | {"family": 6}, expect=Observation(**STUMBLES, connected=True)
        ),
    },
    remedies={
        "flow-60-s": Arm(Settings(nat_flow_s=60), given=FLOWTABLE, expect=Observation(**REMEMBERS, connected=True)),
        "after-the-server": Arm(
            Settings(), given=FLOWTABLE | {"rest_s": 62.5}, expect=Observation(syns=1, connected=True)
        ),
    },
    reads="Linux net/netfilter/nf_flow_table_core.c (flow_offload_fixup_ct, nf_flow_offload_gc_step); RFC 6888 "
    "section 3, REQ-8",
)
def flowtable_early_release(lab: Lab, *, flowtable: int = 0, rest_s: float = 45.0, family: int = 4) -> Observation:
    """A gateway with a flow table forgets a closed connection before the server's TIME_WAIT ends, and
    the next client on the port stumbles over that: on Linux 7.3 with its own timers, not on 6.12.

    Connection tracking keeps a closed connection for 120 s (control). Linux 7.3 leaves the flow in
    the table after its FINs, for 30 s, and then its entry in CLOSE for 10 s: some 40 s in all, which
    is less than the server's 60 s. The second client gets the same outside port, its SYN looks older
    than what the server remembers, and needs an acknowledgement, a reset and a second SYN: some
    10 ms, and where a firewall drops one of these, an outage (`nat-second-client`).

    Linux 6.12 ends the flow at the first FIN, connection tracking sees the rest, and the entry is in
    TIME_WAIT for its 120 s.

    A flow that is kept for 60 s without segments outlives the server's TIME_WAIT (remedy
    `flow-60-s`: nf_flowtable_tcp_timeout).
    """
    first, second, server = lab["c1"], lab["c2"], lab["server"]
    listener = server.listen(80, family=family)
    lab.shift_clocks({"c1": 3600.0})

    lab.step("The first client's connection is used, and closed by the server, which is in TIME_WAIT for 60 s.")
    near = first.connect(server, 80, source_port=40_000, family=family)
    far = listener.accept()
    lab.transfer(near, far, 100)
    lab.transfer(far, near, 100)
    lab.close(far, near)
    (entry,) = lab.conntrack("nat")

    lab.step(f"{rest_s:g} s later the second client, whose clock is behind, connects from the same port.")
    lab.sleep(rest_s)
    opening = lab.wire.copy(match(flags="S"), count=2)
    attempt = second.try_connect(server, 80, source_port=40_000, family=family, timeout_s=4)
    facts = {"same_port": opening.segments[0].source_port == 40_000, "syns": len(opening.segments)}
    lab.row(
        TABLE,
        flowtable=bool(flowtable),
        entry=entry.state,
        rest_s=rest_s,
        **facts,
        connect_ms=round(attempt.took_s * 1000),
    )
    return Observation(
        entry=entry.state,
        timer_s=entry.remaining_s,
        **facts,
        connected=bool(attempt),
    )
