"""tcp_fin_timeout does not set the length of TIME_WAIT."""

from twlab import Arm, Lab, Observation, Settings, scenario

UNCHANGED = Observation(in_time_wait=True, reopened=False, refused_by="EADDRNOTAVAIL", in_fin_wait2=False)


@scenario(
    topology="pair",
    base=Settings(timestamps=0),
    control=Arm(
        Settings(time_wait_s=60),
        expect=Observation(in_time_wait=True, reopened=False, refused_by="EADDRNOTAVAIL", in_fin_wait2=True),
    ),
    treatment={
        "fin-timeout": Arm(Settings(time_wait_s=60, fin_timeout_s=1), expect=UNCHANGED),
        "fin-timeout-ipv6": Arm(Settings(time_wait_s=60, fin_timeout_s=1), given={"family": 6}, expect=UNCHANGED),
    },
    remedies={
        "time-wait": Arm(Settings(time_wait_s=1), expect=Observation(in_time_wait=False, reopened=True, refused_by=""))
    },
    reads="Linux Documentation/networking/ip-sysctl.rst (tcp_fin_timeout), net/ipv4/tcp.c (__tcp_close, tcp_fin_time), "
    "net/ipv4/tcp_minisocks.c (tcp_time_wait: the timeout it is given counts for FIN_WAIT2 alone), "
    "include/net/tcp.h (TCP_TIMEWAIT_LEN)",
)
def fin_timeout_myth(lab: Lab, *, family: int = 4) -> Observation:
    """Lowering tcp_fin_timeout does not shorten TIME_WAIT: it only ends sooner a FIN_WAIT2 that no
    application owns any more.

    Tuning guides set tcp_fin_timeout to 10 or 30 s "to lower the time in TIME_WAIT", and divide the
    number of ports by it to get a rate of connections. Both numbers in the kernel are 60 s and even
    defined by one another, which may be where the myth comes from; but TIME_WAIT takes the
    constant, and only FIN_WAIT2 the sysctl: how long this end, closed by its application, waits for
    the other end's FIN. A FIN that comes in time leads to the whole TIME_WAIT, for any value of
    tcp_fin_timeout.

    Two seconds after the close, with tcp_fin_timeout at 1 s, the FIN_WAIT2 is gone, and the
    TIME_WAIT is still there: its four-tuple cannot be opened. The arm `time-wait` shows what would
    have helped, if it were wanted: a shorter TIME_WAIT.
    """
    client, server = lab["client"], lab["server"]
    listener = server.listen(80, family=family)

    lab.step("Two connections. The client closes both; the server closes only the first.")
    first, half = (client.connect(server, 80, source_port=port, family=family) for port in (40_000, 40_001))
    peer, silent = listener.accept(), listener.accept()
    for connection in (first, half):
        connection.close()
    lab.require(peer.wait_closed_by_peer() and silent.wait_closed_by_peer(), "the server has read the end of both")
    peer.close()
    lab.require(lab.wait_until(lambda: lab.time_wait("client")), "the first is in TIME_WAIT")
    lab.require(lab.wait_until(lambda: "FIN_WAIT2" in states(lab, 40_001)), "the second is in FIN_WAIT2")

    lab.step("Two seconds later.")
    lab.sleep(2)
    observed = {"in_time_wait": "TIME_WAIT" in states(lab, 40_000), "in_fin_wait2": "FIN_WAIT2" in states(lab, 40_001)}

    lab.step("The client opens the four-tuple of the first again.")
    attempt = client.try_connect(server, 80, source_port=40_000, family=family)
    return Observation(**observed, reopened=bool(attempt), refused_by=attempt.error)


def states(lab: Lab, port: int) -> set[str]:
    """The states of the client's sockets with the local port `port`."""
    return {entry.state for entry in lab.sockets("client") if entry.local_port == port}
