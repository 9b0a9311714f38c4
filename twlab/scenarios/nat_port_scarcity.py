"""A gateway with few ports for a busy destination."""

from functools import partial

from twlab import Arm, Lab, Observation, Settings, at_least, at_most, between, scenario, since
from twlab.traffic.connection import Connection

TABLE = "A block of ports, and one destination"

FOR_EVER_S = 1000.0  # longer than any arm
OPEN = {"life_s": FOR_EVER_S}
EVICTS = "6.5"  # commit 458972550287
BLOCK_128, BLOCK_256, ONE = {"ports": "40000-40127"}, {"ports": "40000-40255"}, {"ports": "40000"}


@scenario(
    topology="nat,clients=2,servers={servers},ports={ports}",
    base=Settings(nat_time_wait_s=120),
    control=Arm(Settings(), given=OPEN, expect=Observation(opened=132, unanswered=0, dropped=0, most_at_a_time=132)),
    treatment={
        "held-128": Arm(
            Settings(),
            given=BLOCK_128 | OPEN,
            expect=Observation(opened=128, unanswered=4, dropped=4, most_at_a_time=128),
        ),
        "held-128-ipv6": Arm(
            Settings(),
            given=BLOCK_128 | OPEN | {"family": 6},
            expect=Observation(opened=128, unanswered=4, dropped=4, most_at_a_time=128),
        ),
        "held-256": Arm(
            Settings(),
            given=BLOCK_256 | OPEN | {"connects": 260},
            expect=Observation(opened=between(240, 256), unanswered=between(4, 20), most_at_a_time=at_most(256)),
        ),
        "held-1-s": Arm(
            Settings(),
            given=BLOCK_128 | {"life_s": 1.0, "connects": 400, "patience_s": 0.05},
            expect=Observation(unanswered=at_least(4), most_at_a_time=128, rate_per_s=between(40, 128)),
        ),
        "rests-128": Arm(
            Settings(),
            given=BLOCK_128 | {"connects": 256, "rest": True, "patience_s": 0.05},
            # A connect or two may be quicker than what puts the port to rest.
            expect=Observation(opened=between(128, 132), unanswered=between(124, 128), evicted=at_most(4), tracked=128),
        ),
        "one-port": Arm(
            Settings(),
            given=ONE | {"connects": 30},
            expect=Observation(
                opened=since(EVICTS, between(4, 26), before=1), unanswered=since(EVICTS, between(4, 26), before=29)
            ),
        ),
        "one-port-kept": Arm(
            Settings(),
            given=ONE | {"connects": 2, "source_port": 40_000},
            expect=Observation(opened=1, unanswered=1, dropped=1),
        ),
    },
    remedies={
        "short-128": Arm(
            Settings(),
            given=BLOCK_128 | {"connects": 256},
            expect=Observation(
                opened=since(EVICTS, 256, before=128),
                unanswered=since(EVICTS, 0, before=128),
                evicted=since(EVICTS, 128, before=0),
                tracked=128,
                rested_s=since(EVICTS, at_most(5), before=None),
            ),
        ),
        "short-256": Arm(
            Settings(),
            given=BLOCK_256 | {"connects": 400},
            expect=Observation(
                opened=since(EVICTS, 400, before=256),
                unanswered=since(EVICTS, 0, before=144),
                evicted=since(EVICTS, 144, before=0),
                tracked=256,
                rested_s=since(EVICTS, at_most(10), before=None),
            ),
        ),
        "two-destinations": Arm(
            Settings(), given=BLOCK_128 | OPEN | {"servers": 2}, expect=Observation(opened=132, unanswered=0, dropped=0)
        ),
    },
    reads="Linux net/netfilter/nf_nat_core.c (get_unique_tuple, nf_nat_l4proto_unique_tuple, "
    "nf_nat_used_tuple_harder), "
    "commit 458972550287 (Linux 6.5); RFC 6888 section 3, REQ-8; RFC 7422; draft-naito-nat-time-wait-reduction",
)
def nat_port_scarcity(
    lab: Lab,
    *,
    ports: str = "",
    connects: int = 132,
    life_s: float = 0.0,
    patience_s: float = 0.2,
    source_port: int = 0,
    servers: int = 1,
    rest: bool = False,
    family: int = 4,
) -> Observation:
    """Behind a NAT gateway with a block of P ports, P connections to one destination are all that
    can be open, and the next connect meets silence; connections in TIME_WAIT do not count, because
    Linux gives their ports away at once.

    The textbook says that a port rests for the gateway's timer after each connection, so that P
    ports carry P / (life + timer) connections a second: 128 ports and 120 s make one a second. That
    is so where the gateway keeps its word (RFC 6888: 120 s). Linux does, as long as other ports are
    free. Since 6.5, when its search comes to the last 32 tries, it throws out an entry in TIME_WAIT
    or CLOSE if the new SYN's sequence number is beyond the old connection's, which is so for half
    of them: among 32 there is one. So 256 connections pass through 128 ports at once (arm
    `short-128`), the port's rest is a fraction of a second (`rested_s`), and the ceiling is P /
    life (arm `held-1-s`, with connects that follow each other). Before 6.5 nothing was thrown out, and
    the textbook was right; a gateway that rests its ports, as cloud gateways do, is the textbook's
    still: 128 of 256, and then none for 120 s (arm `rests-128`, and `nat-rest`). What the rest
    protects from is in `nat-early-release` and `nat-second-client`.

    What is open is never thrown out. The SYN that finds no port is dropped: no RST, no ICMP;
    connect() waits, here for `patience_s`, which is one SYN. Blocks of more than 128 ports are not
    searched to the end: the gateway gives up after 248 tries at random, so that a few connects may
    meet silence before all 256 ports are in use (arm `held-256`).

    With a single port each connect is one try, and succeeds if the sequence number happens to be
    beyond (arm `one-port`: about half of 30). Where the client's own port is that one already,
    nothing is tried at all: the second client's SYN is dropped, for 120 s (arm `one-port-kept`). A
    second destination has its own P four-tuples (arm `two-destinations`).
    """
    clients = [lab["c1"], lab["c2"]]
    hosts = [lab[name] for name in lab.network.nodes if name.startswith("s")]
    listeners = [host.listen(80, family=family) for host in hosts]
    seen = Seen(lab)
    if rest:
        lab.rest_ports("nat")

    lab.step(
        f"Two clients connect {connects} times in turn; each closes its connection "
        + (f"after {life_s:g} s." if life_s else "at once.")
    )
    for number in range(connects):
        at = number % servers
        attempt = clients[number % 2].try_connect(
            hosts[at], 80, source_port=source_port, family=family, timeout_s=patience_s
        )
        if attempt.connection is None:
            continue
        peer = listeners[at].accept()
        seen.opened(attempt.connection, peer)
        if life_s:
            lab.loop.call_later(life_s, partial(seen.end, attempt.connection, peer))
        else:
            seen.end(attempt.connection, peer)

    lab.step("What does the gateway track?")
    lab.wait_until(lambda: life_s or all(entry.state == "TIME_WAIT" for entry in lab.conntrack("nat")), timeout_s=1)
    opened, tracked = len(seen.opened_at_s), len(lab.conntrack("nat"))
    rate = seen.rate_per_s(life_s)
    facts = {"opened": opened, "unanswered": connects - opened, "most_at_a_time": seen.most}
    size, timer_s = size_of(ports), lab.settings["nat"].nat_time_wait_s or 120
    lab.row(
        TABLE,
        ports=size,
        life_s=life_s,
        timer_s=timer_s,
        textbook_per_s=size / (life_s + timer_s) if size else None,
        connects=connects,
        **facts,
        measured_per_s=rate,
    )
    return Observation(
        **facts,
        dropped=lab.moved("nat", "ConntrackDrop"),
        tracked=tracked,
        evicted=opened - tracked,
        rested_s=round(min(seen.rested_s), 6) if seen.rested_s else None,
        rate_per_s=round(rate, 1) if rate else None,
    )


class Seen:
    """The connections that were opened.

    Attributes:
        opened_at_s: when each was opened.
        most: open at a time.
        rested_s: how long a port rested between two connections, whenever it was used again.
    """

    def __init__(self, lab: Lab):
        self.opened_at_s: list[float] = []
        self.most = 0
        self.rested_s: list[float] = []
        self._lab = lab
        self._open: set[Connection] = set()
        self._released_s: dict[int, float] = {}

    def opened(self, connection: Connection, peer: Connection) -> None:
        """Note a connection that has come about; `peer` is the server's end."""
        self.opened_at_s.append(self._lab.now_s)
        self._open.add(connection)
        self.most = max(self.most, len(self._open))
        if (port := peer.flow.destination_port) in self._released_s:
            self.rested_s.append(self._lab.now_s - self._released_s[port])

    def end(self, connection: Connection, peer: Connection) -> None:
        """Close the connection, the client first."""
        connection.close()
        peer.wait_closed_by_peer()
        peer.close()
        self._open.discard(connection)
        self._released_s[peer.flow.destination_port] = self._lab.now_s

    def rate_per_s(self, life_s: float) -> float | None:
        """Return how many were opened a second; None where all come at once."""
        if not 0 < life_s < FOR_EVER_S:
            return None
        return len(self.opened_at_s) / (self.opened_at_s[-1] - self.opened_at_s[0] + life_s)


def size_of(ports: str) -> int | None:
    """Return the number of ports in a range like ``40000-40127``; None for no range."""
    low, _, high = ports.partition("-")
    return int(high or low) - int(low) + 1 if ports else None
