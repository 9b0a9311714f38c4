"""A gateway whose ports are all at rest, and the next connection."""

import platform

from twlab import Arm, Lab, Observation, Settings, between, scenario, since
from twlab.linux import conntrack
from twlab.scenarios.nat_port_scarcity import size_of
from twlab.scenarios.nat_second_client import interval

TABLE = "Connects that found a port by eviction, and the 95 % interval of their share"

EVICTS = "6.5"  # Linux, commit 458972550287


@scenario(
    topology="nat,ports={ports}",
    control=Arm(Settings(), given={"ports": "40000-40002"}, expect=Observation(served=40)),
    treatment={
        "one-port": Arm(
            Settings(),
            given={"ports": "40000", "used": 1},
            expect=Observation(served=since(EVICTS, between(5, 35), before=0)),
        ),
        "two-ports": Arm(Settings(), expect=Observation(served=since(EVICTS, between(17, 39), before=0))),
        "two-ports-ipv6": Arm(
            Settings(), given={"family": 6}, expect=Observation(served=since(EVICTS, between(17, 39), before=0))
        ),
        "half-closed": Arm(Settings(), given={"half_closed": True}, expect=Observation(served=0)),
    },
    remedies={
        "sixteen-ports": Arm(
            Settings(),
            given={"ports": "40000-40015", "used": 16, "trials": 8},
            expect=Observation(served=since(EVICTS, 8, before=0)),
        ),
    },
    reads="Linux net/netfilter/nf_nat_core.c (nf_nat_used_tuple_harder), commit 458972550287 (Linux 6.5)",
)
def snat_eviction(
    lab: Lab, *, ports: str = "40000-40001", used: int = 2, trials: int = 40, half_closed: bool = False, family: int = 4
) -> Observation:
    """Whether a gateway whose ports are all at rest serves one more connection is a coin toss for each
    port: 50 % with one port, 75 % with two.

    Linux throws an entry in TIME_WAIT or CLOSE out for a new connection if the new SYN's sequence
    number is ahead of the old connection's, which is so for half of all pairs. Each port is one toss:
    1 - 1/2^n for n ports, and the table has the share and its interval (Wilson's). With sixteen there
    is nearly always one. In ranges of up to 32 ports it may do so although others are free, because
    it does so in the last 32 tries of each round.

    Entries of half-closed connections are never thrown out (arm `half-closed`): for the server's
    CLOSE_WAIT they are alive. With a third port, free, all are served (control). Linux before 6.5
    throws nothing out, and serves none.
    """
    client, server, nat = lab["client"], lab["server"], lab.network["nat"]
    listener = server.listen(80, family=family)
    served = 0

    lab.step(f"{trials} times: connections are closed until {used} ports are taken, and another one is tried.")
    for _ in range(trials):
        waiting = []
        while conntrack.count(nat) < used:
            near = client.connect(server, 80, family=family)
            far = listener.accept()
            near.close()
            far.wait_closed_by_peer()
            if half_closed:
                waiting.append(far)
            else:
                far.close()
        lab.sleep(0.02)
        attempt = client.try_connect(server, 80, family=family, timeout_s=0.2)
        if attempt.connection:
            served += 1
            attempt.connection.abort()
            listener.accept().close()
        for far in waiting:
            far.close()
        lab.sleep(0.05)
        conntrack.delete(nat, lab.conntrack("nat"))
    low, high = interval(served, trials)
    free = (size_of(ports) or 0) > used
    tossed = since(EVICTS, 1 - 0.5**used, before=0.0).on(platform.release())
    expected = 0.0 if half_closed else 1.0 if free else tossed
    lab.row(
        TABLE,
        ports=ports,
        half_closed=half_closed,
        served_share=served / trials,
        from_share=low,
        to_share=high,
        expected_share=expected,
    )
    return Observation(served=served)
