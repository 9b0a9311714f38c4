"""How old a TIME_WAIT has to be before tcp_tw_reuse takes it: tcp_tw_reuse_delay."""

from collections.abc import Callable, Mapping
from typing import Any

from twlab import Arm, Lab, Observation, Settings, at_most, between, match, scenario, since
from twlab.linux import sysctl
from twlab.segment import distance

SYSCTL = "net.ipv4.tcp_tw_reuse_delay"
SINCE = "6.14"  # before, the delay is fixed: until the clock's whole seconds go up by one
LATE_S = 0.3  # of real time; in virtual time it is a millisecond
TRIES = 30  # the client tries again after this part of the time that has passed
TICK_S = 0.001  # of the clock by which the kernel reckons the age
ABOVE = 65_537  # from where the old client ended to where the new one starts
SENT = 400  # bytes that each end sends on the old connection
CLEAN = {"recycled": 1, "starts_above": ABOVE, "answered": 2, "foreign_bytes": 0}
REFUSED = Observation(reopened=False, refused_by="EADDRNOTAVAIL", foreign_bytes=0)


def after(delay_ms: int) -> Observation:
    """Predict when the four-tuple is reused, and that old segments do nothing then."""
    delay_s = delay_ms / 1000
    then = between(round(delay_s - TICK_S, 3), latest_s(delay_s))
    return Observation(reopened=True, reused_after_s=since(SINCE, then, at_most(1 + LATE_S)), **CLEAN)


def latest_s(delay_s: float) -> float:
    """Return when the client has tried at the latest, which it does more and more rarely."""
    return round(delay_s * (1 + 1 / TRIES) + LATE_S, 3)


def predict(arm: str, at: Callable[[str], Settings], given: Mapping[str, Any]) -> Observation | None:
    """Predict for another delay, if it is well below TIME_WAIT."""
    delay_s, time_wait_s = given["delay_ms"] / 1000, at("client").time_wait_s or 60.0
    if arm in ("control", "no-timestamps"):
        return REFUSED if max(given["patience_s"], 1.2 * delay_s) < 0.95 * time_wait_s else None
    return after(given["delay_ms"]) if latest_s(delay_s) < 0.95 * time_wait_s else None


@scenario(
    topology="pair",
    base=Settings(time_wait_s=60, port_low=40_000, port_high=40_000, tw_reuse=1),
    control=Arm(Settings(tw_reuse=0), expect=REFUSED),
    treatment={
        "1-ms": Arm(Settings(), given={"delay_ms": 1}, expect=after(1)),
        "1-ms-ipv6": Arm(Settings(), given={"delay_ms": 1, "family": 6}, expect=after(1)),
    },
    remedies={
        "100-ms": Arm(Settings(), given={"delay_ms": 100}, expect=after(100)),
        "1000-ms": Arm(Settings(), given={"delay_ms": 1000}, expect=after(1000)),
        "3000-ms": Arm(Settings(), given={"delay_ms": 3000}, expect=after(3000)),
        "no-timestamps": Arm(Settings(timestamps=0), given={"delay_ms": 1}, expect=REFUSED),
    },
    reads="Linux Documentation/networking/ip-sysctl.rst (tcp_tw_reuse_delay), net/ipv4/tcp_ipv4.c (tcp_twsk_unique), "
    "net/ipv4/tcp_minisocks.c (tcp_time_wait: tw_entry_stamp); RFC 7323 section 5.3",
    predict=predict,
    sizes=("time_wait_s",),
)
def tw_reuse_delay(lab: Lab, *, delay_ms: int = 1, patience_s: float = 1.5, family: int = 4) -> Observation:
    """Since Linux 6.14 tcp_tw_reuse takes a TIME_WAIT of the age that tcp_tw_reuse_delay names, 1
    to 60,000 ms; at 1 ms old segments still do no harm.

    Older kernels wait until the clock's whole seconds have gone up by one, which is anything from
    nothing to a second; the sysctl names milliseconds, and its default is 1,000. So with the
    default a port comes back half a second later, on average, than it did on an older kernel, and
    with 10 ms it is hardly ever missed. The kernel does not take 0.

    The least delay is one tick of the timestamp clock, so that the new connection's timestamps are
    above those of the old one, and PAWS can tell them apart. A peer whose clock ticks more slowly
    needs more. Where PAWS has nothing to go by, the sequence numbers stop the old segments: the
    client begins 65,537 above the end of the old connection, and the server by its clock. Both old
    segments are answered by an acknowledgement, and no byte of them is read. What still needs PAWS
    is an old server that sent faster than 15.6 bytes a microsecond, as in `tw-reuse-safe`: the
    shorter the delay, the shorter a flow is enough for that.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    listener = server.listen(80, family=family)
    node = lab.network["client"]
    with node.inside():
        known = sysctl.exists(SYSCTL)
    if known:
        node.write_sysctl(SYSCTL, delay_ms)
    lab.note(f"{SYSCTL} is {delay_ms} ms" if known else "this kernel has a fixed delay")

    lab.step("A short connection; the wire keeps a copy of each end's data. The client closes first.")
    old, peer = client.connect(server, 80, family=family), listener.accept()
    copies = [wire.copy(match(source=end.address(family), payload=True)) for end in (client, server)]
    ending = wire.copy(match(source=client.address(family), having="F"))
    lab.transfer(old, peer, SENT, filler=b"o")
    lab.transfer(peer, old, SENT, filler=b"o")
    closed_s = lab.now_s  # TIME_WAIT begins after this, however late it is seen to have begun
    lab.close(old, peer)

    lab.step("The client tries to open the same four-tuple, again and again.")
    until_s = closed_s + max(patience_s, 1.2 * delay_ms / 1000)
    opening = wire.copy(match(flags="S"))
    attempt = client.try_connect(server, 80, family=family)
    while not attempt and lab.now_s < until_s:
        lab.sleep(max(0.001, (lab.now_s - closed_s) / TRIES))
        attempt = client.try_connect(server, 80, family=family)
    reused_after_s = round(lab.now_s - closed_s, 3)
    if not attempt.connection:
        return Observation(reopened=False, refused_by=attempt.error, foreign_bytes=0)
    new, peer = attempt.connection, listener.accept()

    lab.step("The copies of the old segments arrive, and both ends send.")
    answers = wire.watch()
    for copy in copies:
        copy.release()
    lab.wait_until(lambda: len(answers.segments) >= len(copies), timeout_s=1)
    answered = len(answers.segments)
    new.send(b"n" * 1000)
    peer.send(b"n" * 1000)
    read = peer.receive(1000) + new.receive(1000)
    return Observation(
        reopened=True,
        reused_after_s=reused_after_s,
        recycled=lab.moved("client", "TWRecycled"),
        starts_above=distance(ending.segments[0].end_seq, opening.segments[0].seq),
        answered=answered,
        foreign_bytes=read.count(b"o"),
        paws_drops=lab.moved("client", "PAWSEstab") + lab.moved("server", "PAWSEstab"),
    )
