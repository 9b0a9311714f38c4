"""Short connections through a gateway with a flow table and few ports."""

from twlab import Arm, Lab, Observation, Settings, at_most, between, scenario
from twlab.linux.kernel_series import since

TABLE = "60 short connections at once through 16 ports, and 16 more later"

# Of 60 at once, after RST and after FINs, and of 16 more 45 s later.
RESET = {(6, 12): {"served": 16, "later": 0}, (7, 2): {"served": 16, "later": 16}}
FINS = {(6, 12): {"served": 60, "later": 16}, (7, 2): {"served": 16, "later": 16}}
ALL = {"served": between(58, 60), "later": between(14, 16)}
CHANCE = 2  # connects at most that meet only entries whose sequence numbers are ahead of theirs
FLOWTABLE = {"flowtable": 1}


@scenario(
    topology="nat,ports=40000-40015,flowtable={flowtable}",
    control=Arm(Settings(), given={"pause_s": 1.0}, expect=Observation(**ALL, dropped=at_most(CHANCE))),
    treatment={
        "reset": Arm(Settings(), given=FLOWTABLE, expect=Observation(as_this_kernel=True, served=between(16, 18))),
        "reset-ipv6": Arm(
            Settings(), given=FLOWTABLE | {"family": 6}, expect=Observation(as_this_kernel=True, served=between(16, 18))
        ),
        "reset-liberal": Arm(
            Settings(nat_be_liberal=True),
            given=FLOWTABLE,
            expect=Observation(as_this_kernel=True, served=between(16, 18)),
        ),
        "fins": Arm(
            Settings(),
            given=FLOWTABLE | {"ending": "fins"},
            expect=Observation(as_this_kernel=True),
        ),
    },
    remedies={
        "fins-without": Arm(
            Settings(), given={"ending": "fins", "pause_s": 1.0}, expect=Observation(**ALL, dropped=at_most(CHANCE))
        )
    },
    reads="Linux net/netfilter/nf_flow_table_core.c (flow_offload_teardown, flow_offload_fixup_ct), nf_flow_table_ip.c "
    "(nf_flow_state_check), nf_conntrack_proto_tcp.c (the RST's sequence number), "
    "Documentation/networking/nf_conntrack-sysctl.rst (nf_flowtable_tcp_timeout)",
)
def flowtable_reset(
    lab: Lab, *, flowtable: int = 0, ending: str = "reset", pause_s: float = 45.0, family: int = 4
) -> Observation:
    """A flow table makes a gateway with few ports run out of them on short connections, since it
    does not see, or does not believe, that they have ended.

    Without one, sixty connections that are opened, used and reset pass through sixteen ports at
    once: the gateway gives the port of an entry in CLOSE or TIME_WAIT away (control). A flow table
    forwards past connection tracking, which then does not know the present sequence numbers.

    Linux 6.12 ends the flow at the RST or FIN, and hands the segment to connection tracking. FINs are
    believed. The RST is not, because its number is not what was seen last, and the entry stays
    ESTABLISHED, 300 s long; `be_liberal` makes no difference. Linux 7.2 leaves the flow in the table
    for its 30 s without segments, however the connection ends, and then has the entry in CLOSE for
    10 s. So 16 are served at once in either, and of 16 more 45 s later none with 6.12 and all with
    7.2. `RESET` and `FINS` in the scenario's file hold the predictions by kernel series.
    """
    client, server = lab["client"], lab["server"]
    listener = server.listen(80, family=family)

    def used() -> bool:
        """Open, use and end a connection; return whether it came about."""
        attempt = client.try_connect(server, 80, family=family, timeout_s=0.05)
        if attempt.connection is None:
            return False
        near, far = attempt.connection, listener.accept()
        lab.transfer(near, far, 100)
        lab.transfer(far, near, 100)
        if ending == "reset":
            near.abort()
        else:
            near.close()
        far.wait_closed_by_peer()
        far.close()
        lab.sleep(0.01)
        return True

    lab.step(f"Sixty connections, one after the other; each is used, and ended by {ending} of the client.")
    served = sum(used() for _ in range(60))
    states = sorted({entry.state for entry in lab.conntrack("nat")})
    dropped = lab.moved("nat", "ConntrackDrop")

    lab.step(f"{pause_s:g} s later, sixteen more.")
    lab.sleep(pause_s)
    facts = {"served": served, "later": sum(used() for _ in range(16))}
    expected = since(RESET if ending == "reset" else FINS)
    as_expected = all(abs(facts[name] - count) <= CHANCE for name, count in expected.items())
    lab.row(TABLE, flowtable=bool(flowtable), ended_by=ending, pause_s=pause_s, entries=", ".join(states), **facts)
    return Observation(**facts, as_this_kernel=as_expected, dropped=dropped)
