"""A campus behind two NAT gateways, and a proxy in front of all clients."""

from twlab import Arm, Lab, Observation, Settings, at_least, scenario

PATIENCE_S = 0.6  # one SYN, and the one that follows a reset at once
EVERYBODY, THE_OLDEST = "c1 c3 c2 c4", "c1 c3"


@scenario(
    topology="campus,clients=2",
    base=Settings(timestamps=2, time_wait_s=60, nat_time_wait_s=120),
    control=Arm(Settings(), expect=Observation(let_in=EVERYBODY, refused=0, refused_as_old=0, served=4)),
    treatment={
        "recycle": Arm(
            Settings(tw_recycle=True),
            expect=Observation(let_in=THE_OLDEST, refused=2, refused_as_old=0, served=2, refused_upstream=0),
        ),
        "early-release": Arm(
            Settings(nat_time_wait_s=1, nat_close_s=1),
            expect=Observation(let_in=EVERYBODY, refused=0, refused_as_old=2, served=4),
        ),
        "early-release-ipv6": Arm(
            Settings(nat_time_wait_s=1, nat_close_s=1),
            given={"family": 6},
            expect=Observation(let_in=EVERYBODY, refused=0, refused_as_old=2, served=4),
        ),
        "early-release-rfc1337": Arm(
            Settings(nat_time_wait_s=1, nat_close_s=1, rfc1337=True),
            expect=Observation(let_in=THE_OLDEST, refused=0, refused_as_old=at_least(2), served=2),
        ),
    },
    remedies={
        "recycle-one-clock": Arm(
            Settings(tw_recycle=True), given={"apart_s": 0.0}, expect=Observation(let_in=EVERYBODY, refused=0, served=4)
        ),
        "early-release-younger-first": Arm(
            Settings(nat_time_wait_s=1, nat_close_s=1, rfc1337=True),
            given={"apart_s": -45.0},
            expect=Observation(let_in=EVERYBODY, refused=0, refused_as_old=0, served=4),
        ),
    },
    reads="Linux 4.9 net/ipv4/tcp_metrics.c (tcp_remember_stamp, tcp_peer_is_proven); net/ipv4/tcp_minisocks.c "
    "(tcp_timewait_state_process); "
    "RFC 6191; RFC 1337 section 3; RFC 6888 section 3, REQ-8",
)
def double_nat(lab: Lab, *, apart_s: float = 45.0, family: int = 4) -> Observation:
    """Behind each of two NAT gateways one client shuts out the others: what hurts stays with the
    address, and a second gateway neither shares it nor heals it.

    To a proxy with tcp_tw_recycle each gateway is one machine with one clock (arm `recycle`). Of
    the clients behind nat1 only c1 connects, which booted first; behind nat2 only c3, although its
    clock is behind that of c2, which is refused: clocks are compared within an address. The same
    with gateways that forget before the proxy does (arm `early-release`): c2 stumbles over the
    TIME_WAIT of c1 and c4 over that of c3, from one and the same source port, and c3 does not
    stumble over c1's; with tcp_rfc1337 c2 and c4 are shut out. See `recycle-nat` and
    `nat-second-client` for why.

    For each client let in, the proxy asks the origin server over a separate connection. That half
    is not hurt, also with tcp_tw_recycle at the origin: the proxy is one address with one clock.
    (With offsets for each connection it would be: see `recycle-offsets`.)
    """
    proxy, server = lab["proxy"], lab["server"]
    downstream, upstream = proxy.listen(80, family=family), server.listen(80, family=family)
    lab.step(f"The clients' clocks: c1's is {apart_s:g} s ahead of c2's, that of c3's, and that of c4's.")
    lab.shift_clocks({f"c{number}": 200 - apart_s * number for number in (1, 2, 3, 4)})

    let_in: list[str] = []
    served = 0
    for pair in ("c1", "c3"), ("c2", "c4"):
        if let_in:
            lab.sleep(2.5)  # longer than the gateways' timers, where those are short
            lab.require(
                lab.settings["proxy"].tw_recycle or len(lab.time_wait("proxy")) == 2,
                "the proxy still is in TIME_WAIT for both",
            )
        lab.step(
            f"{' and '.join(pair)} connect to the proxy from port 40000, and the proxy asks the server; who is "
            "asked closes first."
        )
        for name in pair:
            attempt = lab[name].try_connect(proxy, 80, source_port=40_000, family=family, timeout_s=PATIENCE_S)
            if attempt.connection:
                let_in.append(name)
                asked = proxy.try_connect(server, 80, family=family, timeout_s=PATIENCE_S)
                if asked.connection:
                    served += 1
                    lab.close(upstream.accept(), asked.connection)
                lab.close(downstream.accept(), attempt.connection)
    return Observation(
        let_in=" ".join(let_in),
        refused=lab.moved("proxy", "PAWSPassive"),
        refused_as_old=lab.moved("proxy", "PAWSEstab")
        + lab.moved("proxy", "PAWSTimewait"),  # by its own name since Linux 6.16
        served=served,
        refused_upstream=lab.moved("server", "PAWSPassive"),
    )
