"""Overflow: beyond tcp_max_tw_buckets Linux makes no TIME_WAIT."""

from twlab import Arm, Lab, Observation, Settings, scenario
from twlab.segment import match

CLOSED = 6  # connections closed one after the other
UNHARMED = Observation(in_time_wait=CLOSED, overflows=0, answer_to_fin="A", last_reopened=False)


@scenario(
    topology="pair",
    base=Settings(timestamps=0, time_wait_s=60),
    control=Arm(Settings(), expect=UNHARMED),
    treatment={
        "half": Arm(
            Settings(max_tw_buckets=3),
            expect=Observation(in_time_wait=3, overflows=3, answer_to_fin="R", last_reopened=True),
        ),
        "half-ipv6": Arm(
            Settings(max_tw_buckets=3),
            given={"family": 6},
            expect=Observation(in_time_wait=3, overflows=3, answer_to_fin="R", last_reopened=True),
        ),
        "none": Arm(
            Settings(max_tw_buckets=0),
            expect=Observation(in_time_wait=0, overflows=CLOSED, answer_to_fin="R", last_reopened=True),
        ),
        "orphans": Arm(
            Settings(max_tw_buckets=CLOSED),
            given={"orphans": 2},
            expect=Observation(in_time_wait=4, overflows=2, answer_to_fin="R", last_reopened=True),
        ),
    },
    remedies={"enough": Arm(Settings(max_tw_buckets=CLOSED), expect=UNHARMED)},
    reads="Linux Documentation/networking/ip-sysctl.rst (tcp_max_tw_buckets), net/ipv4/inet_timewait_sock.c "
    "(inet_twsk_alloc), "
    "net/ipv4/tcp_minisocks.c (tcp_time_wait); RFC 9293 section 3.6.1",
)
def overflow(lab: Lab, *, orphans: int = 0, family: int = 4) -> Observation:
    """Past tcp_max_tw_buckets, connections close without any TIME_WAIT, and no error is reported.

    The limit counts for a network namespace and all its ports. At the limit the kernel destroys the
    socket of the next connection as it would enter TIME_WAIT, the newest therefore, and leaves the
    old ones alone. No error, and not even a line in the kernel's log, which tcp(7) still promises:
    only the counter TCPTimeWaitOverflow moves. With the limit at 0 that is every connection.

    What TIME_WAIT is for then fails. Here the last ACK of the last connection is lost: the server
    sends its FIN again, and is answered by a RST: had its application still been waiting to hear
    that all had arrived, it would now see an error. And the four-tuple can be opened again at once,
    with no time for old segments to die: all that `stale-data` and its like show with a TIME_WAIT
    of 1 s holds for 0 s.

    The places are shared with orphaned connections in FIN_WAIT2 (arm `orphans`): peers that do not
    close take TIME_WAIT from others. The limit that helps is (rate of closes) x 60 s, and more; at
    528 bytes of memory each, that is cheap.
    """
    client, server, wire = lab["client"], lab["server"], lab.wire
    listener = server.listen(80, family=family)

    lab.step(f"{orphans} connections that the client closes, and the server does not.")
    silent = []
    for _ in range(orphans):
        client.connect(server, 80, family=family).close()
        silent.append(listener.accept())
    lab.require(
        lab.wait_until(lambda: [s.mini for s in lab.sockets("client")] == [True] * orphans),
        "they are mini-sockets in FIN_WAIT2",
    )

    lab.step(f"{CLOSED} connections are closed, by the client first. On the last one the client's last ACK is lost.")
    repeated = wire.watch(match(source=server.address(family), having="F"))
    for number in range(CLOSED):
        connection = client.connect(server, 80, source_port=40_000 + number, family=family)
        peer = listener.accept()
        connection.finish()
        lab.require(peer.wait_closed_by_peer(), "the server has read the end")
        if number == CLOSED - 1:
            wire.drop(match(source=client.address(family), destination_port=80, flags="A"), count=1)
        peer.close()
        connection.wait_closed_by_peer()
        connection.close()
    in_time_wait = len(lab.time_wait("client"))

    lab.step("The server, which has not been told, sends its FIN again.")
    answers = wire.watch(match(source=client.address(family)))
    lab.require(repeated.wait(5, count=CLOSED + 1) and answers.wait(1), "the FIN came again, and was answered")

    lab.step("The client opens the last four-tuple again.")
    attempt = client.try_connect(server, 80, source_port=40_000 + CLOSED - 1, family=family)
    return Observation(
        in_time_wait=in_time_wait,
        overflows=lab.moved("client", "TCPTimeWaitOverflow"),
        answer_to_fin=answers.segments[0].flags,
        last_reopened=bool(attempt),
    )
