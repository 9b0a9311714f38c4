"""tcp_tw_recycle behind NAT: one address, many clocks."""

from collections.abc import Callable, Mapping
from math import inf, sqrt
from statistics import median
from typing import Any

from twlab import Arm, Lab, Observation, Settings, between, scenario
from twlab.segment import match
from twlab.traffic.applications import Host

SMALLER = (2, 5, 20)  # groups of clients that come first, each to a server of its own, if there are servers enough
WIDE = {"clients": 50, "servers": 4}
TABLE = "Connects through one gateway (—: not within the client's patience)"

UNHURT = {"failed": 0, "refused": 0, "answers": 0}


def predict(arm: str, at: Callable[[str], Settings], given: Mapping[str, Any]) -> Observation | None:
    """Predict for other numbers of clients, servers and rounds.

    A connect is one SYN, and all come within the minute. None where the next client's clock reaches
    what is remembered before its SYN is sent.
    """
    sizes = [min(size, given["clients"]) for size in (*SMALLER[: given["servers"] - 1], given["clients"])]
    connects = sum(sizes) * given["rounds"]
    wait_s = connects / given["rate_per_s"] if given["rate_per_s"] else 0.0
    first, server = at("c1"), at("server")
    if arm == "no-timestamps-at-one" or given["patience_s"] >= 1 or wait_s + connects * given["patience_s"] >= 50:
        return None
    if (
        not server.tw_recycle
        or first.timestamps == 0
        or server.timestamps == 0
        or (first.timestamps == 2 and given["apart_s"] == 0)
    ):
        return Observation(connects=connects, **UNHURT)
    if first.timestamps == 1:
        chance = connects - len(sizes)
        half, spread = chance / 2, 2.5 * sqrt(chance)  # five standard deviations
        failed: Any = between(max(0, round(half - spread)), min(chance, round(half + spread)))
    elif given["apart_s"] < 1.1 * max(wait_s / connects, given["patience_s"]) + 0.1:
        return None
    else:
        failed = connects - len(sizes) * given["rounds"]
    return Observation(connects=connects, failed=failed, refused=failed, answers=0)


@scenario(
    topology="nat,clients={clients},servers={servers}",
    base=Settings(tw_recycle=True, timestamps=2),
    control=Arm(
        Settings(tw_recycle=False, time_wait_s=60), expect=Observation(connects=3, **UNHURT, time_wait_short=False)
    ),
    treatment={
        "clocks": Arm(Settings(), expect=Observation(connects=3, failed=2, refused=2, answers=0, time_wait_short=True)),
        "clocks-ipv6": Arm(
            Settings(),
            given={"family": 6},
            expect=Observation(connects=3, failed=2, refused=2, answers=0, time_wait_short=True),
        ),
        "no-timestamps-at-one": Arm(
            Settings(),
            on={"c2": Settings(timestamps=0)},
            given={"apart_s": 0},
            expect=Observation(connects=3, failed=1, refused=1, answers=0),
        ),
        "fifty-clocks": Arm(Settings(), given=WIDE, expect=Observation(connects=77, failed=73, refused=73, answers=0)),
        "fifty-offsets": Arm(
            Settings(timestamps=1),
            given=WIDE,
            expect=Observation(connects=77, failed=between(15, 58), refused=between(15, 58), answers=0),
        ),
    },
    remedies={
        "one-clock": Arm(Settings(), given={"apart_s": 0}, expect=Observation(**UNHURT, time_wait_short=True)),
        "no-timestamps-at-server": Arm(
            Settings(), on={"server": Settings(timestamps=0)}, expect=Observation(**UNHURT, time_wait_short=False)
        ),
        "fifty-without-timestamps": Arm(Settings(timestamps=0), given=WIDE, expect=Observation(connects=77, **UNHURT)),
        "fifty-clocks-off": Arm(Settings(tw_recycle=False), given=WIDE, expect=Observation(connects=77, **UNHURT)),
        "fifty-offsets-off": Arm(
            Settings(tw_recycle=False, timestamps=1), given=WIDE, expect=Observation(connects=77, **UNHURT)
        ),
    },
    reads="Linux 4.9 net/ipv4/tcp_metrics.c (tcp_remember_stamp, tcp_peer_is_proven), tcp_minisocks.c (tcp_time_wait), "
    "tcp_input.c (tcp_conn_request); RFC 7323 section 5.3; RFC 1323 appendix B.2",
    predict=predict,
)
def recycle_nat(
    lab: Lab,
    *,
    clients: int = 3,
    servers: int = 1,
    apart_s: int = 45,
    rounds: int = 1,
    rate_per_s: float = 0.0,
    patience_s: float = 0.3,
    family: int = 4,
) -> Observation:
    """With tcp_tw_recycle on a server that closes first, of the clients behind one NAT gateway only
    the one that booted first can connect.

    In return for a TIME_WAIT of less than a second the server remembers the last timestamp of each
    address, and for a minute takes every SYN of that address with an earlier one for an old
    duplicate. It drops it without an answer: no RST, no ICMP, and connect() waits. An address was
    thought to have one clock. Behind a gateway it has as many as there are machines, and the one
    ahead of all others locks them out: of n clients n - 1 (arms `clocks` and `fifty-clocks`; each
    booted `apart_s` after the one before).

    Where clients give each connection, or each destination, a separate timestamp offset, as Linux
    does since 4.10, a SYN is refused with probability 1/2 against what is remembered, from any
    client that sends it (arm `fifty-offsets`; 15 to 58 of 73 fails once in a million runs).

    The arms with fifty clients have four servers, of which each remembers for itself: 2, 5, 20, and
    then all clients connect, and the table has a row for each. A connect has `patience_s`: 0.3 s is
    one SYN. The next ones, after a second and more, meet the same rule. With ``--set`` the
    arguments can be changed: ``clients`` up to 64, ``rounds`` of connects, at most so many a second
    (``rate_per_s``; 0: each follows the last).

    False friends. Timestamps off at one client: a SYN without them is refused while those of
    another are remembered, so that client is worse off than before (arm `no-timestamps-at-one`: all
    clocks are equal, and c2 has its off). Timestamps off at the server, or everywhere: no client is
    refused, and nothing is gained, because TIME_WAIT lasts its 60 s again. What helps is to leave
    it off, which Linux does everywhere since 4.12.

    The clients are real ones. Their clocks are shifted by the lab kernel, or by the gateway where
    the kernel cannot; the transcript says which.
    """
    group = [lab[name] for name in lab.network.nodes if name.startswith("c")]
    hosts = [lab[name] for name in lab.network.nodes if name.startswith("s")]
    syn_acks, resets = (
        lab.wire.watch(match(source_port=80, having="S")),
        lab.wire.watch(match(source_port=80, having="R")),
    )
    lab.step(f"The clients' clocks: each is {apart_s} s behind the one before.")
    lab.shift_clocks({client.name: apart_s * (len(group) - at) for at, client in enumerate(group)})

    took_s: list[float] = []
    for server, size in zip(hosts, [*SMALLER[: servers - 1], clients], strict=True):
        lab.step(f"{size} clients connect to {server.name}, one after the other; the server closes first.")
        times_s = visits(lab, group[:size] * rounds, server, rate_per_s, patience_s, family)
        middle, worst = (None if value == inf else round(value * 1000, 3) for value in (median(times_s), max(times_s)))
        settings = lab.settings[group[0].name], lab.settings[server.name]
        lab.row(
            TABLE,
            clients=size,
            timestamps=settings[0].timestamps,
            recycle=settings[1].tw_recycle,
            connects=len(times_s),
            failed_share=times_s.count(inf) / len(times_s),
            median_ms=middle,
            worst_ms=worst,
        )
        took_s += times_s

    failed = took_s.count(inf)
    facts = {
        "connects": len(took_s),
        "failed": failed,
        "refused": sum(lab.moved(server.name, "PAWSPassive") for server in hosts),
        "answers": len(syn_acks.segments) + len(resets.segments) - (len(took_s) - failed),
    }
    if servers > 1:
        return Observation(**facts)
    lab.step("Does TIME_WAIT end within 5 s?")
    return Observation(**facts, time_wait_short=lab.time_wait_ends("server", timeout_s=5))


def visits(
    lab: Lab, clients: list[Host], server: Host, rate_per_s: float, patience_s: float, family: int
) -> list[float]:
    """Have each client connect, the server closing first; return seconds for each.

    Infinity: longer than the client's patience.
    """
    listener = server.listen(80, family=family)
    took_s, began_s = [], lab.now_s
    for number, client in enumerate(clients):
        lab.sleep_until(began_s + (number / rate_per_s if rate_per_s else 0))
        attempt = lab.visit(client, server, listener, patience_s)
        took_s.append(attempt.took_s if attempt else inf)
    failed, refused = took_s.count(inf), lab.moved(server.name, "PAWSPassive")
    lab.require(failed <= refused, f"{failed} connects failed, {refused} SYNs were refused for their timestamps")
    return took_s
