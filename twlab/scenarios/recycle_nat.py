"""tcp_tw_recycle behind NAT: one address, many clocks."""

from math import inf
from statistics import median
from typing import Any

from twlab import Arm, Lab, Observation, Settings, at_least, between, scenario
from twlab.segment import match
from twlab.traffic import Host

BEHIND = {"s1": 2, "s2": 5, "s3": 20}  # clients that use each server; each server remembers the gateway's address for itself
APART_S = 45  # between one client's boot and the next one's
PATIENCE_S = 0.3  # that an application has; less than the second after which a SYN is sent again, so that each connect is one SYN

ALL_PASS = {"failed_of_2": 0.0, "failed_of_5": 0.0, "failed_of_20": 0.0, "refused": 0, "answers": 0}
BUT_THE_OLDEST = {"failed_of_2": 0.5, "failed_of_5": 0.8, "failed_of_20": 0.95, "refused": 24, "answers": 0}


@scenario(
    topology="nat,clients=20,servers=3",
    base=Settings(timestamps=2),
    control=Arm(Settings(time_wait_s=60, tw_recycle=False), expect=Observation(**ALL_PASS, time_wait_short=False)),
    treatment={
        "clocks": Arm(Settings(tw_recycle=True), expect=Observation(**BUT_THE_OLDEST, time_wait_short=True)),
        "offsets": Arm(
            Settings(tw_recycle=True, timestamps=1),
            expect=Observation(failed_of_20=between(0.05, 0.95), refused=at_least(1), answers=0, time_wait_short=True),
        ),
        "no-timestamps-at-some": Arm(
            Settings(tw_recycle=True),
            on={name: Settings(timestamps=0) for name in ("c2", "c5", "c20")},
            given={"apart_s": 0},
            expect=Observation(failed_of_2=0.5, failed_of_5=0.4, failed_of_20=0.15, refused=6, answers=0),
        ),
    },
    remedies={
        "offsets-without-recycle": Arm(Settings(tw_recycle=False, timestamps=1), expect=Observation(**ALL_PASS, time_wait_short=False)),
        "one-clock": Arm(Settings(tw_recycle=True), given={"apart_s": 0}, expect=Observation(**ALL_PASS, time_wait_short=True)),
        "no-timestamps-at-servers": Arm(
            Settings(tw_recycle=True),
            on={name: Settings(timestamps=0) for name in BEHIND},
            expect=Observation(**ALL_PASS, time_wait_short=False),
        ),
        "no-timestamps-anywhere": Arm(Settings(tw_recycle=True, timestamps=0), expect=Observation(**ALL_PASS, time_wait_short=False)),
    },
    reads="Linux 4.9 net/ipv4/tcp_metrics.c (tcp_remember_stamp, tcp_peer_is_proven), tcp_minisocks.c (tcp_time_wait), "
    "tcp_input.c (tcp_conn_request); RFC 7323 section 5; RFC 1323 appendix B.2",
)
def recycle_nat(lab: Lab, *, apart_s: int = APART_S) -> Observation:
    """With tcp_tw_recycle on a server that closes first, of the clients behind one NAT gateway only the one that booted first can connect.

    In return for a TIME_WAIT of less than a second the server remembers the last timestamp of each address, and for a minute takes every SYN
    of that address with an earlier one for an old duplicate. It drops it without an answer: no RST, no ICMP, and connect() waits. An
    address was thought to have one clock. Behind a gateway it has as many as there are machines, and the one ahead of all
    others locks them out: of n clients n - 1 (arm `clocks`; here each booted 45 s after the one before).

    Where clients give each connection or each destination a timestamp offset of its own, as Linux does since 4.10 (arm `offsets`), a SYN
    is refused with probability 1/2 against what is remembered, whoever sends it.

    Each connect has 0.3 s, one SYN. The next ones, after a second and more, meet the same rule: see `recycle-starvation`.
    The table is the observation's last fact, and told in the transcript: clients, timestamp mode, share of
    failed connects, median and worst time to connect (None: not within that patience).

    False friends. Timestamps off at one client: a SYN without them is refused while those of another are remembered, so that
    client is worse off than before (arm `no-timestamps-at-some`: all clocks are equal, and c2, c5 and c20 have
    theirs off). Timestamps off at the server, or everywhere: nobody is refused, and nothing is gained, because
    TIME_WAIT lasts its 60 s again. What helps is to leave it off, which Linux does for everybody since 4.12.

    The clients are real ones. Their clocks are shifted by the lab kernel, or by the gateway where the kernel cannot; the transcript says which.
    """
    clients = [lab[f"c{number}"] for number in range(1, max(BEHIND.values()) + 1)]
    syn_acks, resets = lab.wire.watch(match(source_port=80, having="S")), lab.wire.watch(match(source_port=80, having="R"))

    lab.step(f"The clients' clocks: each is {apart_s} s behind the one before.")
    lab.shift_clocks({client.name: apart_s * (len(clients) - at) for at, client in enumerate(clients)})

    table: list[dict[str, Any]] = []
    for name, count in BEHIND.items():
        lab.step(f"{count} clients connect to {name}, one after the other; the server closes first.")
        took_s = visits(lab, clients[:count], lab[name])
        table.append(row(count, lab.settings["c1"].timestamps, took_s))

    lab.step("Does TIME_WAIT end within 3 s?")
    short = lab.wait_until(lambda: not any(lab.time_wait(name) for name in BEHIND), timeout_s=3)
    opened = sum(line["connected"] for line in table)
    for line in table:
        words = "{clients} clients, timestamps={timestamps}: {failed_share:.0%} of the connects failed; median {median_ms} ms, worst {worst_ms} ms"
        lab.note(words.format(**line), **line)
    return Observation(
        **{f"failed_of_{line['clients']}": line["failed_share"] for line in table},
        refused=sum(lab.moved(name, "PAWSPassive") for name in BEHIND),
        answers=len(syn_acks.segments) + len(resets.segments) - opened,
        time_wait_short=short,
        table=table,
    )


def visits(lab: Lab, clients: list[Host], server: Host) -> list[float]:
    """Each client connects once, and the server closes first: how long each connect took, in seconds; infinity: longer than its patience."""
    listener = server.listen(80)
    took_s = []
    for client in clients:
        attempt = lab.visit(client, server, listener, PATIENCE_S)
        took_s.append(attempt.took_s if attempt else inf)
    listener.close()
    failed, refused = took_s.count(inf), lab.moved(server.name, "PAWSPassive")
    lab.require(failed == refused, f"{failed} connects failed, {refused} SYNs were refused for their timestamps")
    return took_s


def row(clients: int, mode: int | None, took_s: list[float]) -> dict[str, Any]:
    """A line of the table. Times are in milliseconds, None where the connect did not come about."""
    middle, worst = median(took_s), max(took_s)
    return {
        "clients": clients,
        "timestamps": mode,
        "connected": len(took_s) - took_s.count(inf),
        "failed_share": took_s.count(inf) / len(took_s),
        "median_ms": None if middle == inf else round(middle * 1000, 3),
        "worst_ms": None if worst == inf else round(worst * 1000, 3),
    }
