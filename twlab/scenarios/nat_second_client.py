"""A second client connects to the TIME_WAIT that the first one left at the server."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from math import sqrt
from typing import Any

from twlab import Arm, Lab, Observation, Settings, UsageError, at_least, between, scenario
from twlab.planner.syn_schedule import late, latest_s, syn_schedule
from twlab.segment import match

APART_S = 45.0
IDLE_S = 2.5  # between the first client and the second
TABLE = "Second clients on the TIME_WAIT of first ones, and the 95 % interval of the share that is hurt"
APART_FOR_GOOD = {"behind_s": 3600.0}  # further behind than the client's kernel is patient
# For 60 s and 6 retries: the kernel gives up after 6 to 7 s, when a TIME_WAIT that is not renewed
# is over.
SMALL = Settings(time_wait_s=4, syn_retries=2)
LOSSES = {"reset": match(destination_port=80, having="R"), "ack": match(source_port=80, flags="A")}
HICCUP = {"same_port": 1, "connected": 1, "refused_as_old": 1, "resets": 1, "syns": 2, "time_waits": 1, "rearmed": 0}
# The client's SYNs at 0, 1 and 3 s, each of which renews the TIME_WAIT, until its kernel gives up.
OUTAGE = {
    "same_port": 1,
    "connected": 0,
    "error": "ETIMEDOUT",
    "gave_up_s": between(6, 12),  # the later, the more SYNs the kernel sends a second apart
    "refused_as_old": at_least(3),
    "syns": at_least(3),
}
SMOOTH = {"same_port": 1, "connected": 1, "refused_as_old": 0, "resets": 0, "syns": 1, "time_waits": 1}


def predict(arm: str, at: Callable[[str], Settings], given: Mapping[str, Any]) -> Observation | None:
    """Predict for other numbers of pairs with unrelated clocks, and for other clocks.

    Those clocks are apart in the same direction, and TIME_WAIT outlasts the gaps between SYNs.
    """
    kept, own = (
        nat_second_client.arms[arm].expect,
        {**nat_second_client.parameters, **nat_second_client.arms[arm].given},
    )
    if (given["lost"], given["rest_s"]) != (own["lost"], own["rest_s"]):
        return None
    if given["lost"] and given["pairs"] == 1 and given["behind_s"] > 0:
        return predict_outage(given, at("c2"), at("server"))
    if not outlasts(given, at("c2"), at("server")):
        return None
    pairs = given["pairs"]
    if own["pairs"] > 1:
        if given["patience_s"] != own["patience_s"] or given["behind_s"] != own["behind_s"]:
            return None
        spread = 2.5 * sqrt(pairs)  # five standard deviations
        hurt = between(max(0, round(pairs / 2 - spread)), min(pairs, round(pairs / 2 + spread)))
        blackout = bool(at("server").rfc1337)
        return Observation(
            same_port=pairs, connected=hurt if blackout else pairs, hurt=hurt, rearmed=hurt if blackout else 0
        )
    same_order = given["behind_s"] * own["behind_s"] > 0 and abs(given["behind_s"]) >= 3 + given["patience_s"]
    long_enough = given["patience_s"] == own["patience_s"] or (4 <= given["patience_s"] <= 50 and not given["lost"])
    return kept if pairs == 1 and same_order and long_enough else None


def outlasts(given: Mapping[str, Any], client: Settings, server: Settings) -> bool:
    """Return whether TIME_WAIT lasts until the last pair, and over each wait for the next SYN.

    With tcp_rfc1337 an attempt takes all its patience, otherwise some milliseconds.
    """
    time_wait_s, before_s = server.time_wait_s or 60.0, IDLE_S
    if not server.rfc1337 or given["behind_s"] < 0:
        return time_wait_s > before_s + 0.1 * (given["pairs"] - 1) + 0.4
    schedule = syn_schedule(client, at_once=True)
    if schedule is None:
        return False
    patience_s = min(given["patience_s"], schedule.end_s)
    before_s += given["patience_s"] * (given["pairs"] - 1)
    sent_s = [syn_s for syn_s in schedule.syns_s if syn_s < patience_s]
    waits_s = [later - earlier for earlier, later in pairwise([*sent_s, patience_s])]
    return time_wait_s > 1.1 * max(before_s, *waits_s) + 0.4


def predict_outage(given: Mapping[str, Any], client: Settings, server: Settings) -> Observation | None:
    """Predict for another patience of the client's kernel, another TIME_WAIT, and clocks that are nearer.

    A SYN is let in when the client's clock has caught up; each one before renews the TIME_WAIT.
    """
    schedule = syn_schedule(client, at_once=given["lost"] == "reset")
    caught_up_s = given["behind_s"] - IDLE_S
    if schedule is None or not client.timestamps:
        return None
    if any(syn_s - 0.5 < caught_up_s < latest_s(syn_s) for syn_s in schedule.syns_s):
        return None
    gaps = zip(schedule.syns_s, schedule.gaps_s, strict=False)
    gap_s = max((gap_s for syn_s, gap_s in gaps if syn_s < caught_up_s), default=0.0)
    let_in = next((number for number, syn_s in enumerate(schedule.syns_s) if syn_s > caught_up_s), None)
    end_s = schedule.end_s if let_in is None else schedule.syns_s[let_in]
    if given["patience_s"] < latest_s(end_s) or (server.time_wait_s or 60.0) < 1.1 * gap_s:
        return None
    if let_in is None:
        return Observation(
            same_port=1, connected=0, error="ETIMEDOUT", gave_up_s=late(end_s), syns=len(schedule.syns_s)
        )
    return Observation(same_port=1, connected=1, connect_s=late(end_s), syns=let_in + 1, rearmed=0)


@scenario(
    topology="nat,clients=2",
    base=Settings(timestamps=2, time_wait_s=60, nat_time_wait_s=1),
    control=Arm(
        Settings(nat_time_wait_s=120),
        expect=Observation(same_port=0, connected=1, refused_as_old=0, resets=0, syns=1, time_waits=2, rearmed=0),
    ),
    treatment={
        "hiccup": Arm(Settings(), expect=Observation(**HICCUP)),
        "hiccup-ipv6": Arm(Settings(), given={"family": 6}, expect=Observation(**HICCUP)),
        "blackout": Arm(
            Settings(rfc1337=True),
            expect=Observation(
                same_port=1, connected=0, refused_as_old=at_least(2), resets=at_least(2), syns=at_least(2), rearmed=1
            ),
        ),
        "reset-lost": Arm(
            SMALL, given={"lost": "reset", "patience_s": 14.0, **APART_FOR_GOOD}, expect=Observation(**OUTAGE)
        ),
        "reset-lost-6-s": Arm(
            Settings(syn_retries=3),
            given={"lost": "reset", "patience_s": 14.0, "behind_s": 6.0},
            expect=Observation(same_port=1, connected=1, connect_s=between(1.5, 11), rearmed=0),
        ),
        "ack-lost": Arm(
            SMALL, given={"lost": "ack", "patience_s": 14.0, **APART_FOR_GOOD}, expect=Observation(**OUTAGE, resets=0)
        ),
        "many-hiccups": Arm(
            Settings(timestamps=1),
            given={"pairs": 100},
            expect=Observation(same_port=100, connected=100, hurt=between(25, 75), rearmed=0),
        ),
        "many-blackouts": Arm(
            Settings(timestamps=1, rfc1337=True),
            given={"pairs": 40, "patience_s": 0.25},
            expect=Observation(same_port=40, connected=between(5, 35), hurt=between(5, 35), rearmed=between(5, 35)),
        ),
    },
    remedies={
        "clock-ahead": Arm(Settings(), given={"behind_s": -APART_S}, expect=Observation(**SMOOTH)),
        "clock-ahead-rfc1337": Arm(Settings(rfc1337=True), given={"behind_s": -APART_S}, expect=Observation(**SMOOTH)),
        "clock-ahead-reset-lost": Arm(
            Settings(), given={"behind_s": -APART_S, "lost": "reset"}, expect=Observation(**SMOOTH)
        ),
        "gateway-remembers-rfc1337": Arm(
            Settings(rfc1337=True, nat_time_wait_s=120),
            expect=Observation(same_port=0, connected=1, refused_as_old=0, resets=0, syns=1, time_waits=2, rearmed=0),
        ),
        "gateway-rests-rfc1337": Arm(
            Settings(rfc1337=True),
            given={"rest_s": 60},
            expect=Observation(same_port=0, connected=1, refused_as_old=0, resets=0, syns=1, time_waits=2, rearmed=0),
        ),
    },
    reads="Linux net/ipv4/tcp_minisocks.c (tcp_timewait_state_process), net/ipv4/tcp_input.c "
    "(tcp_rcv_synsent_state_process), "
    "Documentation/networking/nf_conntrack-sysctl.rst; RFC 6191; RFC 1337 section 3; RFC 6888 section 3, REQ-8",
    predict=predict,
    sizes=("time_wait_s", "syn_retries"),
)
def nat_second_client(
    lab: Lab,
    *,
    behind_s: float = APART_S,
    pairs: int = 1,
    patience_s: float = 4.0,
    lost: str = "",
    rest_s: int = 0,
    family: int = 4,
) -> Observation:
    """When a NAT gateway forgets a connection before the server does, the next client's connect
    stumbles over the first one's TIME_WAIT; where the reset or the acknowledgement that clears it
    is lost, and with tcp_rfc1337, it fails.

    Both clients use the same source port, and the gateway, which keeps it where it can, gives both
    the same outside address and port. The server is in TIME_WAIT for that four-tuple. It would take
    a SYN with a later timestamp (RFC 6191), but the second client booted 45 s after the first one:
    its SYN is older, and is answered by an acknowledgement of the old connection. The client resets
    that, the TIME_WAIT dies, and the SYN, sent again at once since Linux 5.6, opens the connection:
    some milliseconds (arm `hiccup`).

    The hiccup is short because two segments arrive: the server's acknowledgement and the client's
    reset. A firewall that takes either for invalid and drops it makes an outage of it (arms
    `reset-lost` and `ack-lost`; ``lost`` may be ``reset`` or ``ack``). Each SYN is refused as old
    and renews the TIME_WAIT, so the server does not forget as long as SYNs come, and the client's
    kernel gives up, ETIMEDOUT: after 128 s and more with Linux's 60 s and six retries, here after
    some 7 s with 4 s and two. A client that is less far behind gets in when its clock has caught up
    (arm `reset-lost-6-s`). The lab pins `tcp_syn_linear_timeouts` to 0; with 4, Linux's default
    since 6.5 (`--defaults`), twice as many SYNs are refused, `reset-lost` gives up 4 s later, and
    `reset-lost-6-s` gets in after 4 s instead of 6.

    With tcp_rfc1337 the server ignores the reset, and each SYN winds the 60 s up again (arm
    `blackout`): who keeps trying keeps himself out. Neither happens where the second client's clock
    is ahead; nor where the gateway remembers for longer than the server: Linux does, for 120 s, and
    then takes another port. A gateway whose timers are short is helped by a program on it that gives
    each closed connection `rest_s` and IPS_FIXED_TIMEOUT (arm `gateway-rests-rfc1337`).

    How often? Of two unrelated clocks either is behind with probability 1/2, and nothing else
    decides: a SYN that is not older is taken. In the arms `many-hiccups` (100 pairs) and
    `many-blackouts` (40) each connection has another clock, offset at random as Linux does by
    default; their bounds fail once in a million runs. The table has the share and its interval
    (Wilson's).

    Clocks differ here as those of two machines do; the transcript says by which means.
    """
    first, second, server = lab["c1"], lab["c2"], lab["server"]
    listener = server.listen(80, family=family)
    ports = range(40_000, 40_000 + pairs)
    lab.shift_clocks({"c1": max(behind_s, 0), "c2": max(-behind_s, 0)})
    opening = lab.wire.copy(match(flags="S"), count=pairs)

    if rest_s:
        lab.rest_ports("nat", rest_s)
    lab.step(f"The first client's connections, {pairs} in all; the server closes first.")
    for port in ports:
        lab.require(lab.visit(first, server, listener, patience_s, source_port=port), "the first client connects")

    lab.step(
        "The gateway forgets them, if its timer is shorter than 2 s. The second client connects from the same ports."
    )
    lab.sleep(IDLE_S)
    ends_s = {entry.remote_port: lab.now_s + entry.remaining_s for entry in lab.time_wait("server")}
    lab.require(len(ends_s) == pairs, "the server is in TIME_WAIT for each of them")
    syns, resets = lab.wire.watch(match(flags="S")), lab.wire.watch(match(destination_port=80, having="R"))
    check(lost)
    connected = hurt = rearmed = 0
    error, gave_up_s = "", 0.0
    took_s: list[float] = []
    for port in ports:
        before = len(syns.segments)
        losing = lab.wire.drop(LOSSES[lost]) if lost else None
        attempt = second.try_connect(server, 80, source_port=port, family=family, timeout_s=patience_s)
        if losing:
            losing.stop()
        hurt += not attempt or len(syns.segments) - before > 1
        if attempt.connection:
            connected += 1
            took_s.append(attempt.took_s)
            lab.close(listener.accept(), attempt.connection)
        else:
            error, gave_up_s = attempt.error, attempt.took_s
            outside = syns.segments[-1].source_port
            left_s = [entry.remaining_s for entry in lab.time_wait("server") if entry.remote_port == outside]
            rearmed += any(lab.now_s + after_s > ends_s[outside] + IDLE_S / 2 for after_s in left_s)
    if pairs > 1:
        lab.row(TABLE, pairs=pairs, connected=connected, **shares(hurt, pairs), worst_ms=max(took_s, default=0) * 1000)
    used = {syn.source_port for syn in opening.segments}
    return Observation(
        same_port=len(used & {syn.source_port for syn in syns.segments}),
        connected=connected,
        hurt=hurt,
        error=error,
        gave_up_s=round(gave_up_s, 3),
        connect_s=round(max(took_s, default=0.0), 3),
        refused_as_old=lab.moved("server", "PAWSEstab")
        + lab.moved("server", "PAWSTimewait"),  # by its own name since Linux 6.16
        resets=len(resets.segments),
        syns=len(syns.segments),
        time_waits=len(lab.time_wait("server")),
        rearmed=rearmed,
    )


def check(lost: str) -> None:
    """Raise UsageError (``bad-setting``) if no such segment can be lost."""
    if lost and lost not in LOSSES:
        raise UsageError(
            f"lost={lost} is not possible: reset or ack is wanted", "for example: --set lost=ack", "bad-setting"
        )


def shares(hurt: int, pairs: int) -> dict[str, float]:
    """Return the share that is hurt, its interval, and theory's."""
    low, high = interval(hurt, pairs)
    return {"hurt_share": hurt / pairs, "from_share": low, "to_share": high, "expected_share": 0.5}


def interval(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's interval for `hits` in `of`, with 95 % confidence."""
    middle, half = (hits + z * z / 2) / (of + z * z), z / (of + z * z) * sqrt(hits * (of - hits) / of + z * z / 4)
    return middle - half, middle + half
