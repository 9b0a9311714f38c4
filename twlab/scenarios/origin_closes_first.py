"""The origin closes first: for which TCP stacks that is a way out."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twlab import Arm, Lab, Observation, Settings, at_least, at_most, between, scenario
from twlab.ports import LINUX_PORTS
from twlab.segment import match
from twlab.stacks import boot
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
LWIP, GVISOR = {"origin": "lwip"}, {"origin": "gvisor", "rate_per_s": 100.0, "duration_s": 1.0}
MANY, WALKED = 2823, 600  # ports, a tenth of Linux's, and connects: more than the range's first round
MANY_PORTS = Settings(port_high=40_000 + MANY - 1)
# Slow enough that a pool of 16 is not full of connections that a busy machine has not come to.
WALK = {"rate_per_s": 100.0, "duration_s": WALKED / 100}
# connect() comes round after about a ninth of the ports; 284 to 370 in 20,000 rounds of a model.
ROUND = between(10, 390)
# Connects that may meet a pool of 16, where connect() begins anew on its heels: once 1 of 600 did.
MET = 6


def predict(arm: str, at: Callable[[str], Settings], given: Mapping[str, Any]) -> Observation | None:
    """Predict for other numbers of ports, rates and times, where the origin closes by FIN."""
    own = {**origin_closes_first.parameters, **origin_closes_first.arms[arm].given}
    client, connects = at("client"), round(given["rate_per_s"] * given["duration_s"])
    if given["ending"] != "close" or given["linger_0"] or own["origin"] != given["origin"] or arm == "walk":
        return None
    if own["pool"] or given["pool"]:
        return None
    if given["origin"] != "lwip":
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
        "lwip-large-pool": Arm(
            MANY_PORTS,
            given=LWIP | WALK | {"pool": 1024},
            expect=Observation(connected=between(WALKED // 2, WALKED - 20), hung=at_least(20), before_reuse=ROUND),
        ),
    },
    remedies={
        "lwip-small-pool": Arm(
            MANY_PORTS,
            given=LWIP | WALK | {"pool": 16},
            expect=Observation(
                connected=between(WALKED - MET, WALKED),
                failed=at_most(MET),
                origin_time_wait=between(12, 16),
                before_reuse=ROUND,
            ),
        ),
        "gvisor": Arm(Settings(), given=GVISOR, expect=FINE),
        "gvisor-ipv6": Arm(Settings(), given=GVISOR | {"family": 6}, expect=FINE),
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
            MANY_PORTS,
            given={"rate_per_s": 200.0},
            expect=Observation(connected=400, failed=0, before_reuse=ROUND),
        ),
    },
    reads="RFC 9293 section 3.6.1 (MAY-2); RFC 1122 section 4.2.2.13; "
    "lwIP 2.1.3 src/core/tcp_in.c (tcp_timewait_input), src/core/tcp.c (tcp_alloc, tcp_slowtmr); gVisor "
    "pkg/tcpip/transport/tcp/rcv.go (handleTimeWaitSegment); "
    "Linux net/ipv4/inet_hashtables.c (__inet_hash_connect), net/core/secure_seq.c (secure_ipv4_port_ephemeral)",
    predict=predict,
    sizes=("port_low", "port_high"),
)
def origin_closes_first(
    lab: Lab,
    *,
    origin: str = "linux",
    pool: int = 0,
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
    anywhere every 10 s. So it comes round after about ports / 9 connects, if not before (arm `walk`:
    2,823 ports, and a port is used again after some 314).

    This is lwIP with its control blocks from the heap, as Debian builds it, and as many devices
    have it. Where they come from a pool (MEMP_NUM_TCP_PCB), lwIP gives the oldest in TIME_WAIT to a
    new connection. So a pool of fewer than ports / 9 has forgotten each port before connect() comes
    back to it (arm `lwip-small-pool`: 16 blocks), unless it begins anew among the last few ports;
    and a larger one has not (arm `lwip-large-pool`). The pool is made by the program around
    Debian's library, which refuses the library further blocks.

    gVisor takes a SYN above its TIME_WAIT, as Linux does, and holds (arm `gvisor`); what it makes of
    one below is told by `gvisor-behind-nat`.

    tcp_tw_reuse at the client, with the client closing first, gains nothing, because lwIP negotiates
    no timestamps (arm `lwip-tw-reuse`). An origin that aborts instead of closing leaves no TIME_WAIT,
    and the client's read fails where it had not read everything; a client that ends with a reset
    (SO_LINGER 0) has the same price. Fewer, longer connections have none.
    """
    client, server = lab["client"].node, lab["server"].node
    stack = LwipStack(lab, "server", pool) if origin == "lwip" else boot(lab, "server")
    if stack:
        stack.listen(80, ending)
    else:
        lab.closing.callback(LoadServer(server, lab.loop, address=server.address(family), responses=1).close)
    syns = lab.wire.watch(match(flags="S"))

    lab.step(f"For {duration_s:g} s, {rate_per_s:g} times a second, the client connects.")
    load = Load(
        rate_per_s=rate_per_s,
        duration_s=duration_s,
        targets=[(server.address(family), 80)],
        opener_closes=ending == "read",
        linger_0=linger_0,
        patience_s=140.0,  # longer than the client's kernel has
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
    lab.row(TABLE, stack=f"{origin}, {pool} blocks" if pool else origin, ending=ending, **facts)
    return Observation(**facts)


def before_reuse(ports: Sequence[int]) -> int:
    """Return how many of `ports` come before the first that is there twice."""
    seen: set[int] = set()
    for at, port in enumerate(ports):
        if port in seen:
            return at
        seen.add(port)
    return len(ports)
