"""Short connections through a gateway with a flow table and few ports."""

from twlab import Arm, Lab, Observation, Settings, at_most, between, scenario, since

TABLE = "60 short connections at once through 16 ports, and 16 more later"

EVICTS = "6.5"  # Linux: nf_nat_used_tuple_harder gives away the port of an entry that is closed
STAYS = "7.2"  # Linux: a flow stays in its table when the connection ends
RST_KEEPS = "6.12"  # Linux: a RST that is not believed no longer cuts the timer to 10 s
# Of 60 at once, and of 16 later. Two at most meet only entries whose numbers are ahead.
ALL, LATER, FEW = between(58, 60), between(14, 16), between(16, 18)
ALL_SERVED = Observation(
    served=since(EVICTS, ALL, before=16),
    later=since(EVICTS, LATER, before=0),
    dropped=since(EVICTS, at_most(2), before=44),
)
RESET = Observation(served=FEW, later=since(STAYS, LATER, before=since(RST_KEEPS, at_most(2), before=16)))
FINS = Observation(served=since(STAYS, FEW, before=since(EVICTS, ALL, before=16)), later=since(EVICTS, LATER, before=0))
FLOWTABLE = {"flowtable": 1}


@scenario(
    topology="nat,ports=40000-40015,flowtable={flowtable}",
    control=Arm(Settings(), given={"pause_s": 1.0}, expect=ALL_SERVED),
    treatment={
        "reset": Arm(Settings(), given=FLOWTABLE, expect=RESET),
        "reset-ipv6": Arm(Settings(), given=FLOWTABLE | {"family": 6}, expect=RESET),
        "reset-liberal": Arm(Settings(nat_be_liberal=True), given=FLOWTABLE, expect=RESET),
        "fins": Arm(Settings(), given=FLOWTABLE | {"ending": "fins"}, expect=FINS),
    },
    remedies={"fins-without": Arm(Settings(), given={"ending": "fins", "pause_s": 1.0}, expect=ALL_SERVED)},
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
    7.2.

    Linux 6.1 gives no such port away (before 6.5), so that 16 are served at once in every arm. The
    RST that it does not believe still cuts the entry's timer to the 10 s of CLOSE, so 16 more are
    served 45 s later.
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
    lab.row(TABLE, flowtable=bool(flowtable), ended_by=ending, pause_s=pause_s, entries=", ".join(states), **facts)
    return Observation(**facts, dropped=dropped)
