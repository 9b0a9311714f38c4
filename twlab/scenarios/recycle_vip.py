"""The folklore of the recycling client and the virtual address."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.segment import distance, match

BEHIND_MS = 3_600_000  # by which the second server's clock is behind the first one's
ISN = 1_000_000

CONNECTED = {"behind_ms": BEHIND_MS, "connected": True, "client_resets": 0, "syns": 1}


@scenario(
    topology="vip",
    base=Settings(timestamps=2, time_wait_s=60),
    control=Arm(Settings(), expect=Observation(**CONNECTED, time_wait_short=False, preloaded=False, taken_over=0)),
    treatment={
        "recycle": Arm(
            Settings(),
            on={"client": Settings(tw_recycle=True)},
            expect=Observation(**CONNECTED, time_wait_short=True, preloaded=False, taken_over=0),
        ),
        "reuse": Arm(
            Settings(),
            on={"client": Settings(tw_reuse=1, port_low=40_000, port_high=40_000)},
            expect=Observation(**CONNECTED, time_wait_short=False, preloaded=True, taken_over=1),
        ),
    },
    remedies={
        "passive": Arm(
            Settings(),
            on={"client": Settings(tw_recycle=True)},
            given={"client_listens": True},
            expect=Observation(behind_ms=BEHIND_MS, connected=False, refused=1, time_wait_short=True),
        ),
    },
    reads="Linux 4.9 net/ipv4/tcp_ipv4.c (tcp_v4_connect), net/ipv4/tcp_metrics.c (tcp_fetch_timewait_stamp, "
    "tcp_peer_is_proven); "
    "Linux net/ipv4/tcp_input.c (tcp_rcv_synsent_state_process)",
)
def recycle_vip(lab: Lab, *, client_listens: bool = False) -> Observation:
    """A client with tcp_tw_recycle connects to a virtual address whose second server has an older
    clock, although folklore says that it drops the answer.

    The story: the client remembers the timestamp of the first server behind the virtual address,
    the balancer sends its next connection to another one, an hour behind, and PAWS in the client
    drops that server's SYN-ACK. It does not happen, for two reasons. On the kernels that had the
    sysctl, connect() looked for what was remembered before it had stored the destination's address,
    and so found nothing; that was measured on genuine Linux 3.10 and 4.9, and neither the lab
    kernel nor the emulation does more. And what it would have found makes no difference: in
    SYN_SENT Linux does not compare a SYN-ACK's timestamp with an earlier one, only its echo. That
    is shown by the kernel this runs on (arm `reuse`): with tcp_tw_reuse the new connection does
    inherit the timestamp of the old one, an hour ahead of the SYN-ACK, as its SYN shows by echoing
    it (`preloaded`), and the connection opens all the same.

    What the setting does do to such a machine is what it does to any: it refuses SYNs. Arm
    `passive` is no remedy but the contrast: the second server connects to the client from the
    virtual address, and is not answered.

    The second server is the lab's own endpoint, since its timestamp is to be chosen; the first one
    and the client are real.
    """
    client, vip, first = lab["client"], lab["vip"], lab["s1"]
    listener = first.listen(80, address=vip.address())

    lab.step(
        "The client's connection to the first server; the client closes first, and remembers the server's timestamp."
    )
    last = lab.wire.watch(match(source=vip.address()))
    old = client.connect(vip, 80)
    lab.close(old, listener.accept())
    remembered = last.segments[-1].timestamp
    lab.require(remembered, "the server uses timestamps")
    assert remembered
    short = lab.time_wait_ends("client", timeout_s=1.5)

    lab.step("The virtual address points at the second server, whose clock is an hour behind.")
    lab.network["vip"].point_at("s2")
    second = lab.wire.endpoint(lab.network["s2"], 80, address=vip.address())
    behind = (remembered[0] - BEHIND_MS) % 2**32
    resets, syns = (
        lab.wire.watch(match(source=client.address(), having="R")),
        lab.wire.watch(match(source=client.address(), flags="S")),
    )
    facts = {"behind_ms": distance(behind, remembered[0]), "time_wait_short": short}
    if client_listens:
        port = client.listen(81).port
        second.send((client.address(), port), "S", seq=ISN, timestamp=(behind, 0))
        answer = second.expect(match(source=client.address()), timeout_s=0.5)
        return Observation(**facts, connected=bool(answer), refused=lab.moved("client", "PAWSPassive"))

    def reply() -> None:
        if not second.seen:
            lab.loop.call_later(0.01, reply)
            return
        syn = second.seen.popleft()
        assert syn.timestamp
        second.send(
            (syn.source, syn.source_port),
            "SA",
            seq=ISN,
            ack=syn.end_seq,
            timestamp=(behind, syn.timestamp[0]),
            options=[("MSS", 1460)],
        )

    reply()
    attempt = client.try_connect(vip, 80, timeout_s=0.8)
    return Observation(
        **facts,
        preloaded=any(syn.timestamp and syn.timestamp[1] == remembered[0] for syn in syns.segments),
        connected=bool(attempt),
        client_resets=len(resets.segments),
        syns=len(syns.segments),
        taken_over=lab.moved("client", "TWRecycled"),
    )
