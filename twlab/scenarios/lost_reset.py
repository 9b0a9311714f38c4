"""A firewall swallows the reset that clears a server's TIME_WAIT."""

from collections.abc import Callable, Mapping
from typing import Any

from twlab import Arm, Lab, Observation, Settings, UsageError, at_least, between, isn, scenario, since
from twlab.linux import nftables
from twlab.observation import Range, Since
from twlab.planner.syn_schedule import late, latest_s, syn_schedule
from twlab.segment import match

RESTARTED_S = 3600.0  # how far the restarted client's clock is behind
PATIENCE_S = 150.0  # of the steps with one connect; Linux's own numbers need 135 s
BULK = 33_000_000  # bytes of the old connection; the clock of initial sequence numbers needs 2.1 s to pass them
TABLE = "A SYN that the server's TIME_WAIT refuses, and what it costs"
LOSSES = {"reset": ("server", "tcp flags & rst == rst"), "ack": ("client", "tcp sport 80 tcp flags == ack")}
TRACKING = """
    table inet tracking {
        chain arriving { type filter hook input priority filter; ct state invalid drop; };
        chain passing { type filter hook forward priority filter - 1; ct state invalid drop; };
    };"""
# For 60 s, 6 and 4: SYNs at 0, 1, 2 s, and given up after 4.
SMALL = Settings(timestamps=2, time_wait_s=1.6, syn_retries=1)
SYNS = Settings(syn_linear_timeouts=2)
# Before Linux 6.5 waits double from the first on: SYNs at 0, 2, 6 s, and given up after 14.
DOUBLING = Settings(syn_linear_timeouts=0, time_wait_s=5, syn_retries=3)
CLEARED = {"connected": True, "error": "", "took_s": between(0.005, 0.5), "syns": 2}


def predict(arm: str, at: Callable[[str], Settings], given: Mapping[str, Any]) -> Observation | None:
    """Predict for another TIME_WAIT and other retries, Linux's own among them.

    With timestamps each SYN winds TIME_WAIT up again, so that only a gap between two of them longer
    than TIME_WAIT lets one in; without, TIME_WAIT ends in its time. None past the steps' patience.
    """
    own = {**lost_reset.parameters, **lost_reset.arms[arm].given}
    if {**given, "family": 4} != {**own, "family": 4} or "connected" not in lost_reset.arms[arm].expect:
        return None
    if not (given["lost"] or at("server").rfc1337) or not given["restarted"] or given["other_port_after_s"]:
        return lost_reset.arms[arm].expect
    client, time_wait_s = at("client"), at("server").time_wait_s or 60.0
    schedule = syn_schedule(client, at_once=given["lost"] != "ack")
    if schedule is None:
        return None
    ages_s = schedule.gaps_s if client.timestamps else schedule.syns_s[1:]
    if any(age_s - 0.2 < time_wait_s < age_s * 1.08 + 0.3 for age_s in ages_s):
        return None  # too near for a prediction
    let_in = next((number for number, age_s in enumerate(ages_s, 1) if age_s > time_wait_s), None)
    end_s = schedule.end_s if let_in is None else schedule.syns_s[let_in]
    if latest_s(end_s) > PATIENCE_S:
        return None
    if let_in is None:
        return Observation(connected=False, error="ETIMEDOUT", took_s=late(end_s), syns=len(schedule.syns_s))
    return Observation(connected=True, error="", took_s=late(end_s), syns=let_in + 1)


def by_waits(settings: Settings, took_s: Range, before_s: Range, given: Mapping[str, Any], **facts: Any) -> Since:
    """Return the arm for kernels with tcp_syn_linear_timeouts, and for those before."""
    return since(
        "6.5",
        Arm(settings.over(SYNS), Observation(**facts, took_s=took_s), given=given),
        before=Arm(settings.over(DOUBLING), Observation(**facts, took_s=before_s), given=given),
    )


OUTAGE: dict[str, Any] = {"connected": False, "error": "ETIMEDOUT", "syns": 4, "refused": at_least(3)}
DELAY: dict[str, Any] = {"connected": True, "error": "", "syns": 4, "resets": 2, "refused": 0}
ENDS = (between(4, 4.8), between(14, 15.5))  # of an outage
LATER = (between(2, 2.5), between(6, 6.9))  # of a delay


@scenario(
    topology="nat,mtu=60000",  # so that the bulk crosses in few segments
    base=SMALL,
    control=Arm(Settings(), expect=Observation(**CLEARED, resets=1, refused=1)),
    treatment={
        "reset-lost": by_waits(Settings(), *ENDS, {"lost": "reset"}, **OUTAGE, resets=at_least(2)),
        "ack-lost": by_waits(
            Settings(),
            between(3, 3.4),
            between(15, 16.6),
            {"lost": "ack"},
            **OUTAGE | {"syns": since("6.5", 3, before=4)},
            resets=0,
        ),
        "rfc1337-ipv6": by_waits(Settings(rfc1337=True), *ENDS, {"family": 6}, **OUTAGE, resets=at_least(2)),
        "no-timestamps": by_waits(Settings(timestamps=0), *LATER, {"lost": "reset"}, **DELAY),
        "rfc1337-no-timestamps-ipv6": by_waits(Settings(timestamps=0, rfc1337=True), *LATER, {"family": 6}, **DELAY),
    },
    remedies={
        "tracking-firewall": Arm(
            Settings(), given={"tracking": True}, expect=Observation(**CLEARED, resets=1, refused=1)
        ),
        "another-port": Arm(
            Settings(),
            given={"lost": "reset", "other_port_after_s": 0.5},
            expect=Observation(connected=True, error="", took_s=between(0.5, 0.9), syns=3),
        ),
        "clock-goes-on": Arm(
            Settings(),
            given={"lost": "reset", "restarted": False},
            expect=Observation(connected=True, error="", syns=1, resets=0, refused=0),
        ),
    },
    reads="RFC 9293 section 3.10.7.4; RFC 5961 section 4; RFC 1337 section 3; RFC 6191; Linux net/ipv4/tcp_minisocks.c "
    "(tcp_timewait_state_process), net/ipv4/tcp_timer.c (tcp_write_timeout, retransmits_timed_out), "
    "Documentation/networking/ip-sysctl.rst (tcp_syn_linear_timeouts), "
    "net/netfilter/nf_conntrack_proto_tcp.c (TCP_CONNTRACK_IGNORE)",
    predict=predict,
    sizes=("time_wait_s", "syn_retries", "syn_linear_timeouts"),
)
def lost_reset(
    lab: Lab,
    *,
    lost: str = "",
    restarted: bool = True,
    tracking: bool = False,
    other_port_after_s: float = 0.0,
    family: int = 4,
) -> Observation:
    """A client whose SYN the server's TIME_WAIT refuses connects 12 ms late; where a firewall
    swallows its reset, or the server's acknowledgement, or with tcp_rfc1337, it does not connect.

    A client that has restarted comes back from its old port with a clock that is behind. The server
    closed first, and is in TIME_WAIT for that four-tuple. It answers with an acknowledgement of the
    old connection, the client resets that, the TIME_WAIT is gone, and the SYN, sent again at once,
    opens the connection (control). Each of the two segments is needed. Rules that drop RSTs, or
    limit them, are common, and so are firewalls that know of no connection to which the
    acknowledgement belongs; `lost` is ``reset`` or ``ack``. tcp_rfc1337 does the same without any
    firewall: the server ignores the reset.

    With timestamps it is an outage: a SYN that PAWS refuses winds TIME_WAIT up again, and the gaps
    between the client's SYNs stay shorter than TIME_WAIT until its kernel gives up, ETIMEDOUT: after
    so many SYNs, or when as long has passed as the retries alone would take. Linear timeouts do not
    lengthen the latter, so that without a SYN sent again at once it gives up after 3 s and 3 SYNs
    (arm `ack-lost`).
    Without timestamps (the old connection sent faster than the clock of initial sequence numbers
    runs, so that the SYN begins too low) TIME_WAIT ends in its time, and the next SYN is let in.

    Here TIME_WAIT is 1.6 s long, and SYNs go out at 0, 1 and 2 s, so that it can be watched in real
    time. Linux's own numbers, ``--set time_wait_s=60 --set syn_retries=6 --set
    syn_linear_timeouts=4``, make 133 to 135 s of it, and 67 s without timestamps; before Linux 6.5,
    ``--set syn_linear_timeouts=0``, 129 to 131 s, and 63 s. A kernel that old has other short arms:
    with 5 s and three retries SYNs go out at 0, 2 and 6 s, and the outage takes 14 s.

    What helps: a rule that lets both segments through. Linux's own connection tracking does: it
    takes neither for invalid (arm `tracking-firewall`, at the server and at the gateway). Giving up
    soon and connecting again from another port does as well. And a client whose clock goes on is let
    in with its first SYN.
    """
    if lost and lost not in LOSSES:
        raise UsageError(
            f"lost={lost} is not possible: reset or ack is wanted", "for example: --set lost=ack", "bad-setting"
        )
    client, server = lab["client"], lab["server"]
    listener = server.listen(80, family=family)
    stamped = lab.settings["client"].timestamps != 0

    lab.step("A connection, which the server closes first: it is the server that holds TIME_WAIT.")
    opening = lab.wire.copy(match(flags="S"))
    old = client.connect(server, 80, source_port=40_000, family=family)
    peer = listener.accept()
    if not stamped:
        lab.transfer(old, peer, BULK)
    lab.close(peer, old)

    lab.step(
        "The client connects again from the same port."
        + (" It has restarted meanwhile." if restarted and stamped else "")
    )
    if restarted and stamped:
        lab.shift_clocks({"client": -RESTARTED_S})
    elif not stamped:
        syn = opening.segments[0]
        lab.require(
            isn.starts_at(syn.seq, lab.now_s - syn.at_s) - syn.seq < BULK,
            "its next sequence number lies below the old ones",
        )
    else:
        lab.sleep(0.1)  # so that its clock has moved on
    if lost:
        lab.refuse(*LOSSES[lost])
    for node in ("server", "nat") if tracking else ():
        with lab.network[node].inside():
            nftables.apply(TRACKING)
    syns, resets = lab.wire.watch(match(flags="S")), lab.wire.watch(match(destination_port=80, having="R"))
    began_s, patience_s = lab.now_s, other_port_after_s or PATIENCE_S
    attempt = client.try_connect(server, 80, source_port=40_000, family=family, timeout_s=patience_s)
    if other_port_after_s and not attempt:
        attempt = client.try_connect(server, 80, source_port=40_001, family=family)
    took_s = round(lab.now_s - began_s, 3)
    facts = {"connected": bool(attempt), "error": attempt.error, "took_s": took_s, "syns": len(syns.segments)}
    settings = lab.settings["server"]
    lab.row(TABLE, lost=lost, rfc1337=bool(settings.rfc1337), timestamps=settings.timestamps, **facts)
    return Observation(
        **facts,
        resets=len(resets.segments),
        refused=lab.moved("server", "PAWSEstab") + lab.moved("server", "PAWSTimewait"),  # its name since Linux 6.16
    )
