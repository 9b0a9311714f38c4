"""The origin closes first: for which TCP stacks that is a way out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twlab import Arm, Lab, Observation, Settings, at_least, between, scenario
from twlab.ports import LINUX_PORTS
from twlab.segment import match
from twlab.stacks.lwip import TIME_WAIT_S, LwipStack
from twlab.traffic.load_client import Load, LoadClient, LoadServer

PORTS, CONNECTS = 50, 100
TABLE = "Connects to an origin that closes first, by its TCP stack"
FINE = Observation(connected=CONNECTS, failed=0, errors="", origin_time_wait=between(20, PORTS))
# Each port serves once. All other connects hang until the client's kernel gives up, here after 2 s.
SPENT = Observation(
    connected=between(PORTS - 5, PORTS),
    failed=at_least(CONNECTS - PORTS),
    hung=at_least(10),
    origin_time_wait=between(PORTS - 5, PORTS),
)
LWIP = {"origin": "lwip"}


def predict(arm: str, at: Callable[[str], Settings], given: Mapping[str, Any]) -> Observation | None:
    """Predict for other numbers of ports, rates and times, where the origin closes by FIN."""
    own = {**origin_closes_first.parameters, **origin_closes_first.arms[arm].given}
    client, connects = at("client"), round(given["rate_per_s"] * given["duration_s"])
    if given["ending"] != "close" or given["linger_0"] or own["origin"] != given["origin"] or arm == "walk":
        return None
    if given["origin"] == "linux":
        return Observation(connected=connects, failed=0, errors="")
    ports = (client.port_high or LINUX_PORTS[1]) - (client.port_low or LINUX_PORTS[0]) + 1
    if connects < 2 * ports:
        return None
    rounds = 1 + given["duration_s"] / TIME_WAIT_S  # each port serves once in that time, at most
    most = round(ports * rounds) + 1
    return Observation(connected=between(ports // 2, most), failed=between(connects - most, connects), hung=at_least(1))


@scenario(
    topology="pair,server={origin}",
    base=Settings(port_low=40_000, port_high=40_000 + PORTS - 1, syn_retries=1),
    control=Arm(Settings(), expect=FINE),
    treatment={
        "lwip": Arm(Settings(), given=LWIP, expect=SPENT),
        "lwip-ipv6": Arm(Settings(), given=LWIP | {"family": 6}, expect=SPENT),
    },
    remedies={
        "lwip-tw-reuse": Arm(
            Settings(tw_reuse=1),
            given=LWIP | {"ending": "read"},
            expect=Observation(
                connected=between(PORTS - 5, PORTS), errors="connect EADDRNOTAVAIL", hung=0, origin_time_wait=0
            ),
        ),
        "lwip-aborts": Arm(
            Settings(),
            given=LWIP | {"ending": "abort"},
            expect=Observation(failed=CONNECTS, hung=0, origin_time_wait=0),  # ECONNRESET for each, and none hangs
        ),
        "lwip-linger-0": Arm(
            Settings(),
            given=LWIP | {"ending": "read", "linger_0": True},
            expect=Observation(connected=CONNECTS, failed=0, hung=0, origin_time_wait=0),
        ),
        "walk": Arm(
            Settings(port_high=40_000 + 2822),
            given={"rate_per_s": 200.0},
            expect=Observation(connected=400, failed=0, before_reuse=between(10, 345)),
        ),
    },
    reads="RFC 9293 section 3.6.1 (MAY-2); RFC 1122 section 4.2.2.13; "
    "lwIP 2.1.3 src/core/tcp_in.c (tcp_timewait_input), src/core/tcp.c (tcp_alloc, tcp_slowtmr); "
    "Linux net/ipv4/inet_hashtables.c (__inet_hash_connect), net/core/secure_seq.c (secure_ipv4_port_ephemeral)",
    predict=predict,
    sizes=("port_low", "port_high"),
)
def origin_closes_first(
    lab: Lab,
    *,
    origin: str = "linux",
    ending: str = "close",
    linger_0: bool = False,
    rate_per_s: float = 50.0,
    duration_s: float = 2.0,
    family: int = 4,
) -> Observation:
    """Where the origin closes first the client needs no port of its own to rest, so that ports are
    no limit; but an origin with lwIP lets no SYN into its TIME_WAIT, and the client's connects hang.

    The end that closes first has the TIME_WAIT. A Linux origin opens it again for a SYN that is
    newer (control): 50 ports carry any rate. lwIP does not. It answers every SYN with an
    acknowledgement, ignores the client's reset, and keeps TIME_WAIT for 120 s, without timestamps
    to tell new from old. So each port serves once in 120 s, ports / 120 s in all, half of what the
    client sustained with its own TIME_WAIT; and what is beyond that hangs until the client's kernel
    gives up (ETIMEDOUT), here after 2 s, with Linux's own retries after 133 s. Each hanging connect
    holds a port, so the user ends at EADDRNOTAVAIL, the symptom that the advice was to cure.

    It begins long before all ports are used. Linux's connect() takes the next free port of one half
    of the range, on from the last one, plus a random step, nine numbers on the average, and begins
    anywhere every 10 s. So it comes round after ports / 9 connects at the latest (arm `walk`: 2,823
    ports, and a port is used again within 314, or a few more).

    This is lwIP with its control blocks from the heap, as Debian builds it, and as many devices have
    it. Where they come from a pool, lwIP gives the oldest in TIME_WAIT to a new connection: a pool
    smaller than ports / 9 does not meet itself.

    tcp_tw_reuse at the client, with the client closing first, gains nothing, because lwIP negotiates
    no timestamps (arm `lwip-tw-reuse`). An origin that aborts instead of closing leaves no TIME_WAIT,
    and the client's read fails where it had not read everything; a client that ends with a reset
    (SO_LINGER 0) has the same price. Fewer, longer connections have none.
    """
    client, server = lab["client"].node, lab["server"].node
    stack = None
    if origin == "linux":
        lab.closing.callback(LoadServer(server, lab.loop, address=server.address(family), responses=1).close)
    else:
        stack = LwipStack(lab, "server")
        stack.listen(80, ending)
    syns = lab.wire.watch(match(flags="S"))

    lab.step(f"For {duration_s:g} s, {rate_per_s:g} times a second, the client connects.")
    load = Load(
        rate_per_s=rate_per_s,
        duration_s=duration_s,
        targets=[(server.address(family), 80)],
        opener_closes=ending == "read",
        linger_0=linger_0,
        most_open=20_000,
    )
    tally = LoadClient(client, lab.loop, load).run()
    lab.require(tally.worst_late_s < 0.5, "the load was put on as planned")
    facts = {
        "connected": sum(second.connected for second in tally.seconds),
        "failed": tally.failed.total(),
        "errors": ", ".join(sorted(tally.failed)),
        "hung": tally.failed["connect ETIMEDOUT"],
        "origin_time_wait": stack.status()["time_wait"] if stack else len(lab.time_wait("server")),
        "before_reuse": before_reuse([syn.source_port for syn in syns.segments]),
    }
    lab.row(TABLE, stack=origin, ending=ending, **facts)
    return Observation(**facts)


def before_reuse(ports: Sequence[int]) -> int:
    """Return how many of `ports` come before the first that is there twice."""
    seen: set[int] = set()
    for at, port in enumerate(ports):
        if port in seen:
            return at
        seen.add(port)
    return len(ports)
