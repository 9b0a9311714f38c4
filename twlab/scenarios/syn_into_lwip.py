"""A SYN into the TIME_WAIT of lwIP and of gVisor, and into that of Linux."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.segment import advance, match
from twlab.stacks import boot

# Where the SYN begins, counted from the sequence number after the last one of the old connection.
STARTS = {"before": -1, "next": 0, "in_window": 1, "beyond_window": 1_000_000}
PATIENCE_S = 0.5  # less than a second, when a SYN-ACK would be repeated
NAMES = {"A": "ACK", "SA": "SYN-ACK", "RA": "RST", "R": "RST"}
TABLE = "Answers to a SYN in TIME_WAIT, by the TCP stack, and how many TIME_WAITs are left of four"
LINUX = Observation(
    before="ACK", next="ACK", in_window="SYN-ACK", beyond_window="SYN-ACK", after_syns=2, after_resets=0
)
GVISOR = Observation(
    before="none", next="none", in_window="SYN-ACK", beyond_window="SYN-ACK", after_syns=2, after_resets=2
)
LWIP = Observation(before="ACK", next="RST", in_window="RST", beyond_window="ACK", after_syns=4, after_resets=4)


@scenario(
    topology="pair,server={stack}",
    control=Arm(Settings(timestamps=0), expect=LINUX),
    treatment={
        "lwip": Arm(Settings(timestamps=0), given={"stack": "lwip"}, expect=LWIP),
        "lwip-ipv6": Arm(Settings(timestamps=0), given={"stack": "lwip", "family": 6}, expect=LWIP),
        "gvisor": Arm(Settings(timestamps=0), given={"stack": "gvisor"}, expect=GVISOR),
        "gvisor-ipv6": Arm(Settings(timestamps=0), given={"stack": "gvisor", "family": 6}, expect=GVISOR),
    },
    reads="RFC 1122 section 4.2.2.13; RFC 9293 sections 3.6.1 and 3.10.7.4; RFC 1337 section 3; lwIP 2.1.3 "
    "src/core/tcp_in.c (tcp_timewait_input); Linux net/ipv4/tcp_minisocks.c (tcp_timewait_state_process)",
)
def syn_into_lwip(lab: Lab, *, stack: str = "linux", family: int = 4) -> Observation:
    """No SYN opens a four-tuple that lwIP holds in TIME_WAIT, and no reset ends that; with Linux a
    SYN that is newer does the one, and any fitting reset the other.

    RFC 1122 allows a stack to open a connection again from TIME_WAIT, for a SYN above all sequence
    numbers before; it does not demand it. Linux does so. lwIP answers a SYN in the receive window
    with a reset, as RFC 9293 has it for a connection that is synchronized, but stays in TIME_WAIT;
    every other one with an acknowledgement, which a client answers with a reset, which lwIP ignores.
    It follows RFC 1337 in that, without a switch. So a client that comes back within 120 s cannot
    get in. Timestamps make no difference, since lwIP has none.

    The SYNs are crafted, and so are the resets that follow; nothing of the answers reaches the
    client.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    program, listener = boot(lab, "server"), None
    if program:
        program.listen(80, "close")
    else:
        listener = server.listen(80, family=family)

    lab.step(f"{len(STARTS)} connections are closed, by the server first.")
    fins = wire.copy(match(source=client.address(family), having="F"), count=len(STARTS))
    for port in range(40_000, 40_000 + len(STARTS)):
        connection = client.connect(server, 80, source_port=port, family=family)
        if listener:
            listener.accept().close()
        connection.wait_closed_by_peer()
        connection.close()

    def resting() -> int:
        return int(program.status()["time_wait"]) if program else len(lab.time_wait("server"))

    lab.require(lab.wait_until(lambda: resting() == len(STARTS)), "the server is in TIME_WAIT for each of them")

    lab.step("Into each TIME_WAIT comes a SYN.")
    answers = wire.drop(match(source=server.address(family)))
    said = {}
    for start, fin in zip(STARTS, fins.segments, strict=True):
        before = len(answers.segments)
        seq = advance(fin.end_seq, STARTS[start])
        wire.inject(wire.craft(like=fin, flags="S", seq=seq, ack=0, options=[("MSS", 1460)]))
        answered = answers.wait(PATIENCE_S, count=before + 1)
        flags = answers.segments[before].flags if answered else "none"
        said[start] = NAMES.get(flags, flags)
    after_syns = resting()

    lab.step("Then a reset with the next sequence number of the old connection.")
    for fin in fins.segments:
        wire.inject(wire.craft(like=fin, flags="R", seq=fin.end_seq, ack=0))
    lab.sleep(0.1)
    facts = {**said, "after_syns": after_syns, "after_resets": resting()}
    lab.row(TABLE, stack=stack, **facts)
    return Observation(**facts)
