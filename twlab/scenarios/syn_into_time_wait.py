"""A SYN into TIME_WAIT: which one opens the four-tuple again."""

from twlab import Arm, Lab, Observation, Settings, scenario, since
from twlab.segment import advance, distance, match

# Where the SYN begins, counted from the sequence number after the last one of the old connection;
# and its timestamp, counted from the last one seen.
STARTS = {"before": -1, "next": 0, "after": 1}
CLOCKS = {"none": None, "older": -1, "equal": 0, "newer": 1}
# TIME_WAIT starts the new connection so far above the last sequence number that the old one has
# sent. From 4.15 to 6.9 tcp_v4_fill_cb forgot the number, and the clock of initial sequence numbers
# chose it.
ABOVE = since("6.10", 65_537, before="each differs")

NO, YES = "ACK", "SYN-ACK"


def table(before: list[str], after: list[str], **against: str) -> Observation:
    """Make a prediction: the answers to each clock, by where the SYN begins.

    Before or at the next sequence number, and after it.
    """
    rows = {"before": before, "next": before, "after": after}
    return Observation(
        **{f"start_{start}": row(answers) for start, answers in rows.items()},
        **against,
        starts_above=ABOVE,
        after_rst="nothing",
    )


def row(answers: list[str]) -> str:
    """The answer to each clock, in one line."""
    return " ".join(f"{clock}:{answer}" for clock, answer in zip(CLOCKS, answers, strict=True))


WITH_TIMESTAMPS = table(
    before=[NO, NO, NO, YES],
    after=[YES, NO, YES, YES],
    let_in_against_rfc1122="before/newer",
    let_in_against_rfc6191="",
    refused_against_rfc6191="next/none next/equal",
)


@scenario(
    topology="pair",
    base=Settings(time_wait_s=60),
    control=Arm(
        Settings(timestamps=0),
        expect=table(
            before=[NO] * 4,
            after=[YES] * 4,
            let_in_against_rfc1122="",
            let_in_against_rfc6191="",
            refused_against_rfc6191="next/none next/older next/equal next/newer",
        ),
    ),
    treatment={
        "timestamps": Arm(Settings(timestamps=1), expect=WITH_TIMESTAMPS),
        "timestamps-ipv6": Arm(Settings(timestamps=1), given={"family": 6}, expect=WITH_TIMESTAMPS),
        "switched-on": Arm(
            Settings(timestamps=0),
            given={"switch_on": True},
            expect=table(
                before=[NO] * 4,
                after=[YES] * 4,
                let_in_against_rfc1122="",
                let_in_against_rfc6191="",
                refused_against_rfc6191="before/older before/equal before/newer next/none next/older next/equal "
                "next/newer",
            ),
        ),
    },
    reads="RFC 1122 section 4.2.2.13; RFC 6191 section 2; RFC 9293 section 3.6.1 (MAY-2, SHLD-4); "
    "Linux net/ipv4/tcp_minisocks.c (tcp_timewait_state_process)",
)
def syn_into_time_wait(lab: Lab, *, switch_on: bool = False, family: int = 4) -> Observation:
    """A SYN reopens a four-tuple in TIME_WAIT if its sequence number is higher than all before or
    its timestamp is newer, and never if that is older.

    So a client that comes back soon is let in at once by a server in TIME_WAIT, and needs no
    shorter one. RFC 1122 allows it for a sequence number larger than any used before. RFC 6191 adds
    timestamps: a newer one lets in any sequence number, an equal one leaves it to the sequence
    number, an older one is refused; and a SYN with timestamps is let in where the old connection
    had none.

    Linux lets in no SYN that RFC 6191 refuses. It refuses some that RFC 6191 lets in: a SYN that
    begins exactly one after the old FIN is higher than all before, but Linux wants one more; and
    after a connection without timestamps it does not look at them (arm `switched-on`, where the
    server's sysctl is changed in between). What it refuses, it answers with an ACK, where RFC 6191
    asks for silence; the client's RST then ends the TIME_WAIT. And RFC 1122's other condition, back
    to TIME_WAIT if the SYN was an old duplicate after all, Linux does not meet, as its source says:
    after a RST in reply to the SYN-ACK nothing is left.

    The SYNs are crafted: a Linux client chooses neither its sequence number nor its clock. Nothing
    of the answers reaches it.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    cells = [(start, clock) for start in STARTS for clock in CLOCKS]
    listener = server.listen(80, family=family)

    lab.step(f"{len(cells)} connections are closed, by the server first.")
    fins = wire.copy(match(source=client.address(family), having="F"), count=len(cells))
    for port in range(40_000, 40_000 + len(cells)):
        connection, peer = client.connect(server, 80, source_port=port, family=family), listener.accept()
        lab.close(peer, connection)
    if switch_on:
        lab.network["server"].write_sysctl("net.ipv4.tcp_timestamps", 1)

    lab.step("Into each TIME_WAIT comes a SYN.")
    answers = wire.drop(match(source=server.address(family)))
    said, above = {}, []
    for number, ((start, clock), fin) in enumerate(zip(cells, fins.segments, strict=True)):
        stamp = None if CLOCKS[clock] is None else (advance((fin.timestamp or (1000, 0))[0], CLOCKS[clock] or 0), 0)
        syn = wire.craft(
            like=fin,
            flags="S",
            seq=advance(fin.end_seq, STARTS[start]),
            ack=0,
            timestamp=stamp,
            options=[("MSS", 1460)],
        )
        wire.inject(syn)
        lab.require(answers.wait(1, count=number + 1), f"the SYN {start}/{clock} is answered")
        answer = answers.segments[number]
        said[start, clock] = YES if answer.flags == "SA" else NO
        if answer.flags == "SA":
            above.append(distance(fin.ack, answer.seq))

    here = [entry.state for entry in lab.sockets("server") if entry.remote_port == syn.source_port]
    lab.require(here == ["SYN_RECV"], "the last of them has been let in")

    lab.step("The last of them was an old duplicate after all: its sender, asked, answers with a RST.")
    wire.inject(wire.craft(like=syn, flags="R", seq=syn.end_seq, timestamp=None))
    lab.sleep(0.05)
    left = " ".join(entry.state for entry in lab.sockets("server") if entry.remote_port == syn.source_port)
    rules = [
        (cell, said[cell] == YES, rfc1122(cell), rfc6191(cell, lab.settings["server"].timestamps != 0, switch_on))
        for cell in cells
    ]
    return Observation(
        **{f"start_{start}": row([said[start, clock] for clock in CLOCKS]) for start in STARTS},
        let_in_against_rfc1122=" ".join("/".join(cell) for cell, let_in, by_1122, _ in rules if let_in and not by_1122),
        let_in_against_rfc6191=" ".join("/".join(cell) for cell, let_in, _, by_6191 in rules if let_in and not by_6191),
        refused_against_rfc6191=" ".join(
            "/".join(cell) for cell, let_in, _, by_6191 in rules if by_6191 and not let_in
        ),
        starts_above=above[0] if len(set(above)) == 1 else "each differs" if len(set(above)) == len(above) else above,
        after_rst=left or "nothing",
    )


def rfc1122(cell: tuple[str, str]) -> bool:
    """Return whether RFC 1122 allows to accept the SYN.

    It does if the SYN begins above the largest sequence number used before.
    """
    return STARTS[cell[0]] >= 0


def rfc6191(cell: tuple[str, str], old_timestamps: bool, switched_on: bool) -> bool:
    """Return whether RFC 6191 accepts the SYN."""
    clock = cell[1]
    if clock == "none" or not (old_timestamps or switched_on):
        return rfc1122(cell)
    return not old_timestamps or clock == "newer" or (clock == "equal" and rfc1122(cell))
