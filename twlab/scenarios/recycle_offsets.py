"""tcp_tw_recycle and a single client whose connections have clocks of their own."""

from twlab import Arm, Lab, Observation, Settings, between, scenario
from twlab.segment import match

CONNECTS = 30
PATIENCE_S = 0.3  # less than the second after which a SYN is sent again, so that each connect is one SYN

ALL_PASS = {"failed": 0, "refused": 0, "answers": 0}


@scenario(
    topology="pair",
    base=Settings(timestamps=1),
    control=Arm(Settings(time_wait_s=60, tw_recycle=False), expect=Observation(**ALL_PASS)),
    treatment={
        "recycle": Arm(
            Settings(tw_recycle=True), expect=Observation(failed=between(3, 27), refused=between(3, 27), answers=0)
        ),
    },
    remedies={
        "one-clock": Arm(
            Settings(tw_recycle=True), on={"client": Settings(timestamps=2)}, expect=Observation(**ALL_PASS, clocks=1)
        ),
        "no-timestamps": Arm(
            Settings(tw_recycle=True), on={"client": Settings(timestamps=0)}, expect=Observation(**ALL_PASS, clocks=0)
        ),
    },
    reads="Linux 4.9 net/ipv4/tcp_metrics.c (tcp_peer_is_proven); Linux net/core/secure_seq.c "
    "(secure_tcp_seq_and_ts_off); RFC 7323 section 5.4",
)
def recycle_offsets(lab: Lab) -> Observation:
    """Without any NAT, a client that gives each connection another timestamp offset loses half of
    its connects to tcp_tw_recycle.

    What the server remembers is the highest timestamp of an address, and an address is no longer
    one clock: the offset is a hash of the four-tuple, so that timestamps do not show how long a
    machine has been up. A SYN's timestamp is then a random number, and lies in the half of the
    circle behind the one remembered with probability 1/2. Linux 4.10 brought such offsets, and so
    broke the sysctl for every client, not only for those behind a gateway; 4.12 removed it.
    (Kernels in between gave an offset to a pair of addresses; since March 2026 it belongs to the
    connection again.)

    A client with one clock is served (arm `one-clock`). So is one without timestamps, and its
    TIME_WAIT at the server is as long as ever. The number of SYNs refused is random; that it is 3
    to 27 of 30 fails once in a million runs.
    """
    client, server = lab["client"], lab["server"]
    listener = server.listen(80)
    syns, syn_acks, resets = (
        lab.wire.watch(match(flags="S")),
        lab.wire.watch(match(source_port=80, having="S")),
        lab.wire.watch(match(source_port=80, having="R")),
    )

    lab.step(f"The client connects {CONNECTS} times, from a new port each time; the server closes first.")
    failed = sum(not lab.visit(client, server, listener, PATIENCE_S) for _ in range(CONNECTS))
    refused = lab.moved("server", "PAWSPassive")
    lab.require(failed == refused, f"{failed} connects failed, {refused} SYNs were refused for their timestamps")

    # An offset is the difference between a timestamp and the time; those of one clock agree to a
    # few milliseconds, or a busy machine's 100.
    offsets = [(syn.timestamp[0] - round(syn.at_s * 1000)) % 2**32 // 10_000 for syn in syns.segments if syn.timestamp]
    return Observation(
        failed=failed,
        refused=refused,
        answers=len(syn_acks.segments) + len(resets.segments) - (CONNECTS - failed),
        clocks=len(set(offsets)) if len(set(offsets)) > 2 else min(1, len(offsets)),
    )
