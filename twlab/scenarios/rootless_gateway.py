"""Ports of a rootless container, which are its host's."""

from collections.abc import Callable, Mapping
from typing import Any

from twlab import Arm, Lab, Observation, Settings, at_least, between, scenario
from twlab.stacks.rootless import RootlessGateway

PORTS = 10
AT_REST = ("TIME_WAIT", "LISTEN")
TABLE = "Connections of a rootless container, and where their TIME_WAITs are"
NARROW = {"proxy": Settings(port_low=40_000, port_high=40_000 + PORTS - 1)}
FULL = {"at_once": PORTS, "host_time_wait": PORTS}
SPENT = Observation(**FULL, error="ENETUNREACH", container_time_wait=PORTS, later=0)


def predict(arm: str, at: Callable[[str], Settings], given: Mapping[str, Any]) -> Observation | None:
    """Predict for pasta, whose version decides which error it is, and what is left inside."""
    own = {**rootless_gateway.parameters, **rootless_gateway.arms[arm].given}
    if {**given, "program": "", "patience_s": 0} != {**own, "program": "", "patience_s": 0}:
        return None
    expect = rootless_gateway.arms[arm].expect
    if given["program"] == "slirp4netns":
        return expect
    if arm == "few-ports-inside":
        return None  # pasta of 2025 leaves no TIME_WAIT there
    return Observation(**{name: fact for name, fact in expect.items() if name not in ("error", "container_time_wait")})


@scenario(
    topology="proxy",
    base=Settings(tw_reuse=2),
    control=Arm(
        Settings(), expect=Observation(at_once=14, error="", host_time_wait=14, container_time_wait=14, later=4)
    ),
    treatment={
        "few-ports": Arm(Settings(), on=NARROW, expect=SPENT),
        "reuse-inside": Arm(Settings(), on=NARROW | {"client": Settings(tw_reuse=1)}, expect=SPENT),
        "few-ports-inside": Arm(
            Settings(),
            on={"client": NARROW["proxy"]},
            expect=Observation(**FULL, error="EADDRNOTAVAIL", container_time_wait=PORTS, later=0),
        ),
    },
    remedies={
        "reuse-outside": Arm(
            Settings(),
            on={"proxy": Settings(port_low=40_000, port_high=40_000 + PORTS - 1, tw_reuse=1)},
            expect=Observation(
                at_once=at_least(PORTS), host_time_wait=PORTS, container_time_wait=between(PORTS, 14), later=4
            ),
        ),
        "server-closes": Arm(
            Settings(),
            on=NARROW,
            given={"closes_first": "server"},
            expect=Observation(at_once=14, error="", host_time_wait=0, container_time_wait=0, later=4),
        ),
    },
    reads="slirp4netns(1); pasta(1); libslirp 4.7.0 src/tcp_subr.c (tcp_fconnect), src/slirp.c; "
    "Linux net/ipv4/tcp_ipv4.c (tcp_twsk_unique)",
    predict=predict,
)
def rootless_gateway(
    lab: Lab, *, program: str = "slirp4netns", closes_first: str = "client", patience_s: float = 2.0
) -> Observation:
    """A rootless container that closes first runs out of its host's ports, and sees an error that
    does not say so; tcp_tw_reuse=1 inside changes nothing, on the host it gives the ports back.

    A container of a user's has no link of its own. slirp4netns, or pasta, ends its connections and
    opens others from the host, so each close leaves two TIME_WAITs. The container has a range of its
    own, as wide as any, and the host's is shared by all containers and everything else of that
    machine. Here the container is the node ``client`` and its host ``proxy``, which has ten ports in
    the treatments; fourteen connections are opened and closed, and four more after 1.1 s.

    The eleventh connect fails. The host's program has met EADDRNOTAVAIL, and cannot hand that on:
    slirp4netns 1.2.0 makes ENETUNREACH of it, pasta since 2025 ECONNREFUSED, and pasta of 2023, which
    is Debian 12's, silence (``--set program=pasta``, on the host engine: it needs seccomp, which the
    lab kernel lacks). A user who takes it for a fault of the network looks in the wrong place; `ss -tan
    state time-wait` on the host shows it.

    tcp_tw_reuse needs timestamps, and neither program offers them to the container (arm
    `reuse-inside`). Where the container's own range is the smaller one, the error is EADDRNOTAVAIL
    as without a gateway (arm `few-ports-inside`).
    """
    RootlessGateway(lab, program, container="client", host="proxy", to=["server"])
    container, server = lab["client"], lab["server"]
    listener = server.listen(80)
    errors: list[str] = []

    def opened(count: int) -> int:
        served = 0
        for _ in range(count):
            attempt = container.try_connect(server, 80, timeout_s=patience_s)
            if attempt.connection is None:
                errors.append(attempt.error)
                continue
            served += 1
            ends = [attempt.connection, listener.accept()]
            if closes_first == "server":
                ends.reverse()
            first, second = ends
            first.close()
            second.wait_closed_by_peer()
            second.close()
        lab.wait_until(
            lambda: all(one.state in AT_REST for node in ("client", "proxy") for one in lab.sockets(node)), 2.0
        )
        return served

    lab.step("The container opens and closes fourteen connections, one after the other.")
    at_once = opened(PORTS + 4)
    waiting = {"host_time_wait": len(lab.time_wait("proxy")), "container_time_wait": len(lab.time_wait("client"))}
    lab.step("1.1 s later it opens four more.")
    lab.sleep(1.1)
    later = opened(4)
    facts = {
        "at_once": at_once,
        "error": errors[0] if errors else "",
        **waiting,
        "later": later,
    }
    lab.row(TABLE, program=program, closes_first=closes_first, **facts)
    return Observation(**facts)
