"""tcp_tw_recycle: how long a client behind NAT is locked out."""

from collections.abc import Callable, Mapping
from typing import Any

from twlab import Arm, Lab, Observation, Settings, at_least, at_most, between, scenario

HALF_CIRCLE_S = 2**31 / 1000  # of the timestamps: a clock that is farther ahead is behind
PATIENCE_S = 0.3  # less than the second after which a SYN is sent again, so that each connect is one SYN


def predict(arm: str, at: Callable[[str], Settings], given: Mapping[str, Any]) -> Observation | None:
    """Predict for another lag and another busy time.

    min(60 s, lag) after the leader's last close, and not before.
    """
    behind_s, busy_s = given["behind_s"], given["busy_s"]
    if behind_s >= HALF_CIRCLE_S:
        return None
    if not at("server").tw_recycle or not given["server_first"] or behind_s < 0.5:
        free = Observation(let_in_while_busy=at_least(int(busy_s)), refused=0, locked_out_s=at_most(1))
        return free if not at("server").tw_recycle or not given["server_first"] else None
    wait_s = min(60.0, behind_s)
    return Observation(
        let_in_while_busy=0,
        refused=at_least(int(wait_s)),
        busy_s=between(busy_s, busy_s + 1),
        locked_out_s=between(wait_s - 0.6, wait_s + 1.5),
    )


@scenario(
    topology="nat,clients=2",
    base=Settings(timestamps=2),
    control=Arm(
        Settings(time_wait_s=60, tw_recycle=False),
        expect=Observation(let_in_while_busy=at_least(5), refused=0, locked_out_s=at_most(1)),
    ),
    treatment={
        "busy": Arm(
            Settings(tw_recycle=True),
            expect=Observation(
                let_in_while_busy=0, refused=at_least(5), busy_s=at_least(7), locked_out_s=between(2.5, 30)
            ),
        ),
        "once": Arm(
            Settings(tw_recycle=True),
            given={"busy_s": 0.0},
            expect=Observation(refused=at_least(3), busy_s=at_most(2), locked_out_s=between(2.5, 30)),
        ),
    },
    remedies={
        "leader-closes-first": Arm(
            Settings(tw_recycle=True),
            given={"server_first": False},
            expect=Observation(let_in_while_busy=at_least(5), refused=0, locked_out_s=at_most(1)),
        ),
    },
    reads="Linux 4.9 net/ipv4/tcp_metrics.c (tcp_remember_stamp, tcp_peer_is_proven), tcp_minisocks.c (tcp_time_wait)",
    predict=predict,
)
def recycle_starvation(
    lab: Lab, *, behind_s: float = 3.0, busy_s: float = 8.0, server_first: bool = True
) -> Observation:
    """With tcp_tw_recycle a busy client starves the others behind its NAT gateway for as long as it
    is busy, however little its clock is ahead.

    What the server remembers is the highest timestamp, and each close of the leader's connections
    renews it. A client that is `behind_s` behind gets in when its own clock has reached what is
    remembered, or when that is 60 s old, whichever is first: after min(60 s, lag). But that time
    begins anew with every close of the leader. Arm `once`: the leader connects once, and the other
    client waits about 3 s, its lag. Arm `busy`: the leader connects every half second for 8 s, and
    in all that time, much longer than the lag, none of the other's SYNs is answered; then it waits
    its 3 s.

    The server remembers nothing of a connection that the client closes first (arm
    `leader-closes-first`). With ``--set behind_s=3600 --set busy_s=90`` the wait after the busy
    time is 60 s; that takes 150 s of real time on the host engine, and hardly any in the lab
    kernel.
    """
    leader, other, server = lab["c1"], lab["c2"], lab["server"]
    listener = server.listen(80)
    lab.shift_clocks({"c1": behind_s, "c2": 0})
    let_in = 0

    lab.step(
        f"The first client, whose clock is {behind_s:g} s ahead, connects again and again for {busy_s:g} s; the "
        "second one tries in between."
    )
    began_s = lab.now_s
    while True:
        attempt = leader.try_connect(server, 80, timeout_s=PATIENCE_S)
        lab.require(attempt, "the leader connects")
        assert attempt.connection
        ends = listener.accept(), attempt.connection
        lab.close(*(ends if server_first else ends[::-1]))
        closed_at_s = lab.now_s
        if closed_at_s - began_s >= busy_s:
            break
        let_in += bool(lab.visit(other, server, listener, PATIENCE_S))
        lab.sleep(0.2)

    lab.step("The first client rests; the second one tries until it is let in.")
    lab.require(
        lab.wait_until(lambda: lab.visit(other, server, listener, PATIENCE_S), timeout_s=70),
        "the second client is let in at last",
    )
    return Observation(
        let_in_while_busy=let_in,
        refused=lab.moved("server", "PAWSPassive"),
        busy_s=round(closed_at_s - began_s, 3),
        locked_out_s=round(lab.now_s - closed_at_s, 3),
    )
