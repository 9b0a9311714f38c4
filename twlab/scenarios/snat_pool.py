"""A gateway with a pool of addresses, and one busy destination."""

from twlab import Arm, Lab, Observation, Settings, scenario

TABLE = "Twenty open connections of one client to one destination, through 32 translations"
POOL = {"addresses": 4, "ports": "40000-40007"}


@scenario(
    topology="nat,addresses={addresses},ports={ports}",
    control=Arm(Settings(), expect=Observation(opened=20, dropped=0, outside=1)),
    treatment={
        "pool": Arm(Settings(), given=POOL, expect=Observation(opened=8, dropped=12, outside=1)),
        "pool-ipv6": Arm(Settings(), given=POOL | {"family": 6}, expect=Observation(opened=8, dropped=12, outside=1)),
    },
    remedies={
        "wider": Arm(
            Settings(), given={"addresses": 4, "ports": "40000-40031"}, expect=Observation(opened=20, dropped=0)
        )
    },
    reads="Linux net/netfilter/nf_nat_core.c (find_best_ips_proto); RFC 6888 section 3, REQ-2; RFC 4787 section 4.1 "
    "(paired pooling)",
)
def snat_pool(lab: Lab, *, addresses: int = 1, ports: str = "40000-40031", family: int = 4) -> Observation:
    """A gateway with a pool of addresses gives a client one of them, and when that address has no port
    left for a destination, the client's connects meet silence although the others are unused.

    Linux chooses the address by a hash of source and destination address, and then looks for a port
    there only. So 4 addresses with 8 ports each carry 8 connections of one client to one
    destination, not 32. One address with 32 ports carries twenty with ease (control). A pool helps
    many clients; for one busy client only a wider range does (remedy).
    """
    client, server = lab["client"], lab["server"]
    listener = server.listen(80, family=family)

    lab.step("Twenty connections, which stay open.")
    attempts = [client.try_connect(server, 80, family=family, timeout_s=0.2) for _ in range(20)]
    far = [listener.accept() for attempt in attempts if attempt]
    outside = {end.flow.destination for end in far}
    facts = {"opened": len(far), "dropped": lab.moved("nat", "ConntrackDrop"), "outside": len(outside)}
    lab.row(TABLE, addresses=addresses, ports=ports, **facts)
    return Observation(**facts)
