"""A stale segment whose numbers fit, at any age: the scenario of the sweep."""

from collections.abc import Callable, Mapping
from typing import Any

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.lab.lab import Story
from twlab.segment import renumbered, without_timestamp

STALE = 400  # bytes of the segment that arrives late
MARGIN_S = 0.01  # the four-tuple is opened again at most this long before it arrives
TICKS_S = 0.005  # a few ticks of the timestamp clock, of which PAWS allows one
PHASES = 1 / 8  # of TIME_WAIT's length: the trials begin within so long, several ticks of the kernel's timer
WINDOW = 60_000  # bytes that the server offers to take, about
LATEST = 1.13  # TIME_WAIT is over after at most this many times its length: Linux's timers may be an eighth late
HARMED = Observation(harmed=1, delayed=0, unharmed=0)
DELAYED = Observation(harmed=0, delayed=1, unharmed=0)
UNHARMED = Observation(harmed=0, delayed=0, unharmed=1)


def predict(arm: str, at: Callable[[str], Settings], given: Mapping[str, Any]) -> Observation | None:
    """Predict for other ages, lengths and numbers of trials.

    Theory's edge is the length of TIME_WAIT. None near it, for other variants of the arm, and with
    timestamps for a segment so young that PAWS may take it.
    """
    own = {**stale_segment.parameters, **stale_segment.arms[arm].given}
    if any(given[name] != own[name] for name in ("covered", "timestamp_lost")):
        return None
    client, trials = at("client"), given["trials"]
    late = not client.timestamps and given["delay_s"] < (client.time_wait_s or 60)
    over = given["delay_s"] > (client.time_wait_s or 60) * LATEST + MARGIN_S
    if client.timestamps and not given["timestamp_lost"]:
        if given["delay_s"] <= MARGIN_S + TICKS_S:
            return None
        return Observation(harmed=0, delayed=0, unharmed=trials)
    if late:
        return Observation(harmed=0, delayed=trials, unharmed=0)
    if not over and not client.timestamps:
        return None
    return Observation(harmed=0 if given["covered"] else trials, delayed=0, unharmed=trials if given["covered"] else 0)


@scenario(
    topology="pair",
    base=Settings(timestamps=0),
    control=Arm(Settings(time_wait_s=60), expect=DELAYED),
    treatment={
        "treatment": Arm(Settings(time_wait_s=1), expect=HARMED),
        "ipv6": Arm(Settings(time_wait_s=1), given={"family": 6}, expect=HARMED),
        "timestamp-lost": Arm(Settings(time_wait_s=1, timestamps=1), given={"timestamp_lost": True}, expect=HARMED),
    },
    remedies={
        "covered": Arm(Settings(time_wait_s=1), given={"covered": True}, expect=UNHARMED),
        "longer-than-delay": Arm(Settings(time_wait_s=3), expect=DELAYED),
        "timestamps": Arm(Settings(time_wait_s=1, timestamps=1), expect=UNHARMED),
        "timestamps-in-full": Arm(Settings(time_wait_s=60, timestamps=1), expect=UNHARMED),
    },
    reads="RFC 9293 section 3.6.1; RFC 1337 section 2.2; RFC 7323 sections 3.2, 5.3 and 5.8; "
    "Linux net/ipv4/tcp_ipv4.c (tcp_twsk_unique), net/ipv4/tcp_input.c (tcp_validate_incoming, tcp_paws_discard, "
    "tcp_ofo_queue), include/net/tcp.h (TCP_PAWS_WINDOW)",
    predict=predict,
    sizes=("time_wait_s",),
)
def stale_segment(
    lab: Lab,
    *,
    delay_s: float = 1.5,
    trials: int = 1,
    covered: bool = False,
    timestamp_lost: bool = False,
    family: int = 4,
) -> Observation:
    """A segment older than TIME_WAIT is delivered to the next connection of its four-tuple; a
    younger one meets no connection.

    The client closes a connection, and wants its four-tuple again just before a segment of the old
    connection arrives that is `delay_s` old. While TIME_WAIT lasts it is refused: the application
    is delayed until then, not harmed. Once TIME_WAIT is over the connection is made, and the
    segment's bytes are read by an application to which they were not sent. With timestamps Linux
    lets a client that names its port reopen at once, for any length of TIME_WAIT, and PAWS drops
    the segment: nothing happens, unless the segment has lost its timestamp on the way (arm
    `timestamp-lost`), or is hardly older than the new connection. Linux's PAWS allows a timestamp
    to be one tick, 1 ms, older than the last one. With ``--set delay_s=0.005`` the four-tuple is
    often opened within that tick, and two of three segments do harm.

    Four things are conditioned on, so that each trial asks about time alone: the segment was under
    way for `delay_s`; the four-tuple is reopened just then; the segment's sequence number lies in
    the new connection's window, at a random place, and its acknowledgement number is the right one,
    for which both are rewritten (its timestamp is its own); and one of the application's writes
    ends within the segment's place. Where a new segment covers that place as a whole, the server's
    kernel keeps the new bytes and drops the old ones (arm `covered`). For the absolute risk of a
    segment whose sequence number is unrelated, multiply by W / 2^32 for a window of W bytes: 1.5e-5
    for 64 KB. `trials` four-tuples are used side by side, at random phases of the clock.
    """
    wire, random, time_wait_s = lab.wire, lab.random, lab.settings["client"].time_wait_s or 60
    shuttle, into = lab.connection_pairs("client", "server", 80, family=family), lab.network["server"].interfaces[0]

    def trial(port: int) -> Story[str]:
        yield lab.now_s + random.uniform(0, 1 + time_wait_s * PHASES)
        old = shuttle.connect(port)
        old.send(b"o" * STALE)
        late, arrives_s = shuttle.copied(port), lab.now_s + delay_s
        old.receive(STALE)
        old.close()
        over_s = lab.now_s + time_wait_s * LATEST

        yield arrives_s - random.uniform(0, MARGIN_S)
        new = shuttle.try_connect(port)
        if not new:
            yield arrives_s
            wire.inject(late, into)
            yield over_s
            shuttle.connect(port).abort()
            return "delayed"
        new.send(b"n" * 100)
        last = shuttle.copied(port)

        yield arrives_s
        ahead = random.randrange(100, WINDOW)
        fitting = renumbered(late, seq=last.end_seq + ahead, ack=last.ack)
        wire.inject(without_timestamp(fitting) if timestamp_lost else fitting, into)
        first = ahead + (-50 if covered else random.randrange(STALE))
        new.send(b"n" * first)
        new.send(b"n" * 1000)
        read = new.receive(100 + first + 1000)
        new.abort()
        return "unharmed" if read == b"n" * (100 + first + 1000) and not new.error else "harmed"

    lab.step(
        f"A segment of an old connection arrives {delay_s:g} s late; just before, its four-tuple is reused. "
        f"Trials: {trials}."
    )
    outcomes = lab.side_by_side(trial(port) for port in random.sample(range(20_000, 60_000), trials))
    counts = {outcome: outcomes.count(outcome) for outcome in ("harmed", "delayed", "unharmed")}
    return Observation(**counts, paws_drops=lab.moved("server", "PAWSEstab"))
