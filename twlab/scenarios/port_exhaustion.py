"""Out of ports: the connections a second that a proxy which closes first can open.

And the failures beyond that rate.
"""

from collections.abc import Callable, Mapping
from math import lcm
from typing import Any

from twlab import Arm, Lab, Observation, Settings, between, scenario, since
from twlab.planner.shortage import Shortage
from twlab.ports import LINUX_PORTS, PortChoice, usable
from twlab.proxies.sizes import reuse_delay_s
from twlab.traffic.load_client import Load, LoadClient, LoadServer

NEIGHBOURS_PORTS, NEIGHBOURS_PORT = 40, 8080
COUNTED_LATE_S = 0.02
PORTS, TIME_WAIT_S = 50, 2  # 25 connections a second, where Linux's 28,232 ports and 60 s allow 470.5
FINE = Observation(failed=0, error="")
# At 30 a second: all ports are taken after 50/30 s, and the first comes back a third of a second
# later.
FULL = {"failed": between(8, 16), "first_failure_s": between(1.6, 1.75), "most_in_time_wait": between(PORTS - 2, PORTS)}
FAILS = Observation(error="connect EADDRNOTAVAIL", **FULL)
# Another program has 40 of the 50 ports in TIME_WAIT, towards another port of the origin. 20 a
# second are in need of 20, with tcp_tw_reuse.
NEXT_DOOR = Settings(tw_reuse=1, time_wait_s=10)
NEIGHBOUR = {"neighbour": "bind", "rate_per_s": 20.0, "duration_s": 2.0}
# Ten ports serve half a second, and come back after one. Before 6.14 all come back when the clock's
# second changes. That instant decides how many of the forty fail: 10 if it is in the middle of the
# load's second, 20 if it is at the start.
SHORT = Observation(error="connect EADDRNOTAVAIL", failed=since("6.14", between(15, 25), before=between(8, 25)))


def predict(arm: str, at: Callable[[str], Settings], given: Mapping[str, Any]) -> Observation | None:
    """Predict for other rates, times, ports, addresses, and another TIME_WAIT.

    By four-tuples / TIME_WAIT, where the rate is not near it.
    """
    proxy, choice = at("proxy"), given["choice"]
    ports = (proxy.port_high or LINUX_PORTS[1]) - (proxy.port_low or LINUX_PORTS[0]) + 1
    kept, reuse = given["requests_per_connection"], proxy.tw_reuse == 1 and proxy.timestamps != 0 and choice != "bind"
    if given["neighbour"] or choice not in {*PortChoice} - {PortChoice.EXPLICIT} or (reuse and kept > 1):
        return None
    if given["linger_0"] or not given["opener_closes"]:
        return Observation(failed=0, error="", most_in_time_wait=0)
    # The load goes through addresses and origins in lockstep: so many pairs of them.
    pairs = given["sources"] if choice == "bind" else lcm(given["sources"], given["origins"])
    hold_s = proxy.time_wait_s or 60
    # Of an odd number of ports the kernel may find the last, or not.
    least, most = (
        Shortage(
            rate_per_s=given["rate_per_s"] / kept,
            duration_s=given["duration_s"],
            four_tuples=count * pairs,
            hold_s=min(reuse_delay_s(proxy), hold_s) if reuse else hold_s,
        )
        for count in (usable(ports, PortChoice(choice)), ports)
    )
    if least.comes is False:
        return FINE
    if not least.comes or not most.comes or reuse or kept > 1:
        return None
    return Observation(
        error="bind EADDRINUSE" if choice == "bind" else "connect EADDRNOTAVAIL",
        failed=between(most.failed().low or 0, least.failed().high or 0),
        first_failure_s=between(least.first_failure_s * 0.96 - 0.02, most.first_failure_s * 1.05 + 0.05),
        # It is counted once a second, when the ports of a tick or two may just have come back.
        most_in_time_wait=between(
            max(0, least.four_tuples * 0.95 - 1 - least.rate_per_s * COUNTED_LATE_S), most.four_tuples
        ),
    )


@scenario(
    topology="proxy,sources={sources}",
    base=Settings(time_wait_s=TIME_WAIT_S, port_low=40_000, port_high=40_000 + PORTS - 1),
    control=Arm(Settings(), given={"rate_per_s": 22.0}, expect=FINE),
    treatment={
        "above": Arm(Settings(), expect=FAILS),
        "bind-first": Arm(Settings(), given={"choice": "bind"}, expect=Observation(error="bind EADDRINUSE", **FULL)),
        "ipv6": Arm(Settings(), given={"family": 6}, expect=FAILS),
        "neighbour-binds-first": Arm(NEXT_DOOR, given=NEIGHBOUR, expect=SHORT),
    },
    remedies={
        "time-wait": Arm(Settings(time_wait_s=1), expect=FINE),
        "wider-range": Arm(Settings(port_low=40_000, port_high=40_000 + 2 * PORTS - 1), expect=FINE),
        "socket-range": Arm(Settings(), given={"choice": "range"}, expect=FAILS),
        "sources": Arm(Settings(), given={"sources": 4}, expect=FINE),
        "origins": Arm(Settings(), given={"origins": 4}, expect=FINE),
        "origins-bind-first": Arm(
            Settings(), given={"origins": 4, "choice": "bind"}, expect=Observation(error="bind EADDRINUSE", **FULL)
        ),
        "origins-bind-no-port": Arm(Settings(), given={"origins": 4, "choice": "bind-no-port"}, expect=FINE),
        "reuse-address": Arm(Settings(), given={"reuse_address": True}, expect=FAILS),
        "tw-reuse": Arm(Settings(tw_reuse=1), expect=FINE),
        "tw-reuse-no-timestamps": Arm(Settings(tw_reuse=1, timestamps=0), expect=FAILS),
        "keep-alive": Arm(Settings(), given={"requests_per_connection": 10}, expect=FINE),
        "neighbour-binds-no-port": Arm(NEXT_DOOR, given=NEIGHBOUR | {"neighbour": "bind-no-port"}, expect=FINE),
        "linger-0": Arm(
            Settings(), given={"linger_0": True}, expect=Observation(failed=0, error="", most_in_time_wait=0)
        ),
        "server-closes": Arm(
            Settings(), given={"opener_closes": False}, expect=Observation(failed=0, error="", most_in_time_wait=0)
        ),
    },
    reads="RFC 6056 section 2.1; Linux net/ipv4/inet_hashtables.c (__inet_hash_connect), "
    "net/ipv4/inet_connection_sock.c "
    "(inet_csk_find_open_port); ip(7), IP_BIND_ADDRESS_NO_PORT and IP_LOCAL_PORT_RANGE",
    predict=predict,
    sizes=("time_wait_s", "port_low", "port_high", "tw_reuse_delay_ms"),
)
def port_exhaustion(
    lab: Lab,
    *,
    rate_per_s: float = 30.0,
    duration_s: float = 3.0,
    choice: str = "connect",
    sources: int = 1,
    origins: int = 1,
    reuse_address: bool = False,
    requests_per_connection: int = 1,
    linger_0: bool = False,
    opener_closes: bool = True,
    neighbour: str = "",
    family: int = 4,
) -> Observation:
    """A proxy that closes first can open ports / TIME_WAIT connections a second to one origin; past
    it, connect() fails with EADDRNOTAVAIL.

    Every connection that the proxy closes first leaves its port in TIME_WAIT, towards that origin.
    When all ports are there the next connect() has none: it fails at once, without a segment on the
    wire. That begins ports / rate seconds after the rate was taken up, which may be a minute: a
    test of ten seconds passes. Here 50 ports and 2 s stand for 28,232 and 60 s, so that it can be
    watched in real time, too; `twlab ceiling` measures the full size.

    Ports are counted for each address of the origin and each of the proxy. The load goes through
    both in lockstep, so that 2 addresses and 2 origins are 2 pairs of the 4 that there are. A proxy
    that calls bind() first, without a port, has them counted for itself alone: it fails in bind(),
    with EADDRINUSE, and gains nothing by more origins; IP_BIND_ADDRESS_NO_PORT mends that. A port
    that one program took in that way is closed to the connect() of every other program, to any
    destination, until its TIME_WAIT ends; tcp_tw_reuse does not open it (arm
    `neighbour-binds-first`). SO_REUSEADDR is about listening, and changes nothing. tcp_tw_reuse
    does help, where timestamps are on. The end that closes first has the TIME_WAIT: let the server
    do it, and the proxy has none. And a connection that is kept needs no port: ten requests on each
    allow ten times the rate.
    """
    proxy, server = lab["proxy"].node, lab["server"].node
    kept = requests_per_connection > 1
    ports = list(range(80, 80 + origins))
    answers = LoadServer(
        server,
        lab.loop,
        ports=[*ports, NEIGHBOURS_PORT] if neighbour else ports,
        address=server.address(family),
        request_bytes=100 if kept else 0,
        response=b"." * 100 if kept else b"",
        responses=0 if opener_closes else 1,
    )
    lab.closing.callback(answers.close)
    settings = lab.settings["proxy"]
    if neighbour:
        next_door(lab, PortChoice(neighbour), family)

    lab.step(f"For {duration_s:g} s, {rate_per_s:g} times a second, the proxy opens and closes a connection.")
    load = Load(
        rate_per_s=rate_per_s,
        duration_s=duration_s,
        targets=[(server.address(family), port) for port in ports],
        sources=proxy.addresses(family) if sources > 1 else (),
        ports=PortChoice(choice),
        port_range=(settings.port_low or 1, settings.port_high or 65535),
        reuse_address=reuse_address,
        linger_0=linger_0,
        opener_closes=opener_closes,
        request=b"." * 100 if kept else b"",
        response_bytes=100 if kept else 0,
        requests_per_connection=requests_per_connection,
    )
    churn = LoadClient(proxy, lab.loop, load)
    lab.loop.wait_until(lambda: churn.done or churn.counts.first_failure_s is not None)
    if not churn.done:
        lab.note(f"from now on, some connections fail: {next(iter(churn.counts.failed))}; nothing is sent for them")
    tally = churn.run()
    series = {
        name: [second.as_dict()[name] for second in tally.seconds]
        for name in ("attempted", "connected", "failed", "in_time_wait")
    }
    lab.note("second by second", **series)
    lab.require(tally.worst_late_s < 0.1, "the load was put on as planned")
    return Observation(
        failed=tally.failed.total(),
        error=next(iter(tally.failed), ""),
        first_failure_s=None if tally.first_failure_s is None else round(tally.first_failure_s, 2),
        most_in_time_wait=max(second.in_time_wait for second in tally.seconds),
        answered=tally.answered,
    )


def next_door(lab: Lab, choice: PortChoice, family: int) -> None:
    """Run another program on the proxy, which connects to another port of the server.

    It chooses its ports by `choice`.
    """
    proxy, server = lab["proxy"].node, lab["server"].node
    lab.step(
        f"Another program opens and closes {NEIGHBOURS_PORTS} connections to another port of the server; ports by "
        f"{choice}."
    )
    load = Load(
        rate_per_s=1000,
        duration_s=NEIGHBOURS_PORTS / 1000,
        targets=[(server.address(family), NEIGHBOURS_PORT)],
        sources=[proxy.address(family)],
        ports=choice,
    )
    lab.require(not LoadClient(proxy, lab.loop, load).run().failed, "the other program finds its ports")
    lab.sleep(1.2)  # so long that tcp_tw_reuse may take what it left
