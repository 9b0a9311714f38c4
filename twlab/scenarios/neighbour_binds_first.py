"""A program that binds before it connects takes its ports from all others."""

from typing import Any

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.ports import PortChoice
from twlab.traffic.load_client import Load, LoadClient, LoadServer

PORTS, NEIGHBOURS, OWN = 50, 40, 20
NEIGHBOURS_PORT, OWN_PORT = 8080, 80
NO_ROOM = Observation(failed=OWN - (PORTS - NEIGHBOURS), error="connect EADDRNOTAVAIL")
FINE = Observation(failed=0, error="")
REUSE = Settings(tw_reuse=1)


def beside(neighbour: str, **given: Any) -> dict[str, Any]:
    """Return the arguments for a neighbour that chooses its ports so."""
    return {"neighbour": neighbour, **given}


@scenario(
    topology="proxy,sources=2",
    base=Settings(time_wait_s=10, port_low=40_000, port_high=40_000 + PORTS - 1),
    control=Arm(REUSE, given=beside("connect"), expect=FINE),
    treatment={
        "bind-first": Arm(Settings(), given=beside("bind"), expect=NO_ROOM),
        "tw-reuse": Arm(REUSE, given=beside("bind"), expect=NO_ROOM),
        "other-address": Arm(REUSE, given=beside("bind", other_address=True), expect=NO_ROOM),
        "ipv6": Arm(REUSE, given=beside("bind", family=6), expect=NO_ROOM),
    },
    remedies={
        "bind-no-port": Arm(Settings(), given=beside("bind-no-port"), expect=FINE),
        "bind-no-port-ipv6": Arm(Settings(), given=beside("bind-no-port", family=6), expect=FINE),
        "own-range": Arm(Settings(), given=beside("bind", own_range=True), expect=FINE),
        "time-wait-over": Arm(Settings(), given=beside("bind", wait_s=11.0), expect=FINE),
    },
    reads="Linux net/ipv4/inet_hashtables.c (__inet_hash_connect: a bucket with fastreuse >= 0 is passed over), "
    "net/ipv4/inet_connection_sock.c (inet_csk_get_port); ip(7), IP_BIND_ADDRESS_NO_PORT",
)
def neighbour_binds_first(
    lab: Lab,
    *,
    neighbour: str = "bind",
    other_address: bool = False,
    own_range: bool = False,
    wait_s: float = 1.2,
    family: int = 4,
) -> Observation:
    """A program that calls bind() before connect() closes its ports to the connect() of every other
    program on the machine, to any destination, until its TIME_WAIT ends; tcp_tw_reuse does not open
    them.

    Of 50 ports a neighbour has left 40 in TIME_WAIT, towards another port of the server. The program
    under test then opens 20 connections by connect() alone. A port serves many destinations, so it
    should have all 50; it finds ten. The kernel notes at each port whether bind() or connect() took
    it, and connect() passes over the ports of bind(): before it looks at the destination, and before
    tcp_tw_reuse is asked. Another source address at the neighbour changes nothing.
    `proxies.md` names the proxies that bind so once a source address is configured.

    The neighbour has the remedy: IP_BIND_ADDRESS_NO_PORT, with which connect() takes the port. Or
    the program under test has a range of ports of its own, outside ip_local_port_range, where
    bind() to port 0 never looks.
    """
    proxy, server = lab["proxy"].node, lab["server"].node
    address = server.address(family)
    answers = LoadServer(
        server, lab.loop, ports=[OWN_PORT, NEIGHBOURS_PORT], address=address, request_bytes=0, response=b"", responses=0
    )
    lab.closing.callback(answers.close)
    main, other = proxy.addresses(family)[:2]

    lab.step(f"A neighbour opens and closes {NEIGHBOURS} connections; its ports by {neighbour}.")
    next_door = Load(
        rate_per_s=1000,
        duration_s=NEIGHBOURS / 1000,
        targets=[(address, NEIGHBOURS_PORT)],
        sources=[other if other_address else main],
        ports=PortChoice(neighbour),
    )
    lab.require(not LoadClient(proxy, lab.loop, next_door).run().failed, "the neighbour finds its ports")
    lab.sleep(wait_s)

    lab.step(f"The program under test opens {OWN} connections.")
    own = Load(
        rate_per_s=1000,
        duration_s=OWN / 1000,
        targets=[(address, OWN_PORT)],
        ports=PortChoice.EXPLICIT if own_range else PortChoice.CONNECT,
        port_range=(20_000, 20_000 + PORTS - 1) if own_range else (1, 65_535),
    )
    tally = LoadClient(proxy, lab.loop, own).run()
    lab.require(tally.worst_late_s < 0.1, "the load was put on as planned")
    return Observation(failed=tally.failed.total(), error=next(iter(tally.failed), ""))
