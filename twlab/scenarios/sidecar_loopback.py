"""Ports between a sidecar and its application, which share one machine."""

from twlab import Arm, Lab, Observation, Settings, between, scenario, since
from twlab.ports import PortChoice
from twlab.traffic.load_client import Load, LoadClient, LoadServer

PORTS = 10
TABLE = "Connections within one pod, by the addresses and the call that takes the port"
# To which address, and from which; None: the kernel chooses.
WAYS: dict[str, dict[int, tuple[str, str | None]]] = {
    "loopback": {4: ("127.0.0.1", None), 6: ("::1", None)},
    "127.0.0.6": {4: ("127.0.0.1", "127.0.0.6")},
    "own": {4: ("", None), 6: ("", None)},
}
SPENT = {"at_once": PORTS, "later": 0}
# Before Linux 6.14 whole seconds count: if one begins meanwhile, ports come back at once.
ONCE = since("6.14", PORTS, before=between(PORTS, 2 * PORTS))
BACK = {"at_once": ONCE, "later": ONCE}


@scenario(
    topology="sidecar",
    base=Settings(tw_reuse=2, port_low=40_000, port_high=40_000 + PORTS - 1),
    control=Arm(Settings(), expect=Observation(**BACK, error="connect EADDRNOTAVAIL")),
    treatment={
        "bind-first": Arm(
            Settings(),
            given={"way": "127.0.0.6", "choice": "bind"},
            expect=Observation(**SPENT, error="bind EADDRINUSE", to_another_port=0),
        ),
        "bind-first-reuse-1": Arm(
            Settings(tw_reuse=1),
            given={"way": "127.0.0.6", "choice": "bind"},
            expect=Observation(**SPENT, error="bind EADDRINUSE", to_another_port=0),
        ),
        "own-address": Arm(
            Settings(), given={"way": "own"}, expect=Observation(**SPENT, error="connect EADDRNOTAVAIL")
        ),
        "own-address-ipv6": Arm(
            Settings(), given={"way": "own", "family": 6}, expect=Observation(**SPENT, error="connect EADDRNOTAVAIL")
        ),
        "reuse-0": Arm(Settings(tw_reuse=0), expect=Observation(**SPENT, error="connect EADDRNOTAVAIL")),
    },
    remedies={
        "loopback-ipv6": Arm(Settings(), given={"family": 6}, expect=Observation(**BACK)),
        "bind-no-port": Arm(
            Settings(),
            given={"way": "127.0.0.6", "choice": "bind-no-port"},
            expect=Observation(**BACK, error="connect EADDRNOTAVAIL"),
        ),
        "own-address-reuse-1": Arm(Settings(tw_reuse=1), given={"way": "own"}, expect=Observation(**BACK)),
    },
    reads="Linux Documentation/networking/ip-sysctl.rst (tcp_tw_reuse), net/ipv4/tcp_ipv4.c (tcp_twsk_unique), "
    "net/ipv4/inet_connection_sock.c (inet_csk_find_open_port); ip(7), IP_BIND_ADDRESS_NO_PORT; istio issue 44008",
)
def sidecar_loopback(lab: Lab, *, way: str = "loopback", choice: str = "connect", family: int = 4) -> Observation:
    """Between a sidecar and its application on loopback Linux's default tcp_tw_reuse=2 gives a port
    back after a second; to a sidecar that binds its address first, or connects to the pod's own
    address, it gives none until TIME_WAIT ends.

    A sidecar hands each request to its application over the loopback interface, and closes first,
    so that TIME_WAIT is its own. Here it has ten ports, and opens twenty connections at once, and
    after 1.1 s twenty more (control: ten, and then ten again).

    Istio's sidecar takes 127.0.0.6 as source, so that the application can tell who calls. Bound
    with bind() and no port, as it was before istio issue 44008, the port is taken in bind(), which
    knows no tcp_tw_reuse: EADDRINUSE for a minute, with value 1, too, and also towards another port
    of the application (`to_another_port`). IP_BIND_ADDRESS_NO_PORT leaves the choice to connect(),
    and all is well.

    "Loopback" is a matter of addresses, 127.0.0.0/8 and ::1, and not of the interface. Where the
    programs of a pod call each other by its own address, the segments cross lo as well, and value 2
    does not apply (arm `own-address`); value 1 does.
    """
    pod = lab["pod"].node
    to, source = WAYS[way][family]
    to = to or pod.address(family)
    lab.closing.callback(LoadServer(pod, lab.loop, ports=[8080, 8081], address=to).close)

    def opened(port: int) -> LoadClient:
        load = Load(
            rate_per_s=20_000,
            duration_s=2 * PORTS / 20_000,
            targets=[(to, port)],
            sources=[source] if source else (),
            ports=PortChoice(choice),
        )
        client = LoadClient(pod, lab.loop, load)
        client.run()
        return client

    lab.step(f"The sidecar opens and closes {2 * PORTS} connections to its application.")
    first = opened(8080).counts
    lab.step("1.1 s later it does so again, and then to another port of the application.")
    lab.sleep(1.1)
    second = opened(8080).counts
    third = opened(8081).counts
    facts = {
        "at_once": sum(one.connected for one in first.seconds),
        "error": next(iter(first.failed), ""),
        "later": sum(one.connected for one in second.seconds),
        "to_another_port": sum(one.connected for one in third.seconds),
    }
    lab.row(TABLE, way=way, ports=choice, tw_reuse=lab.settings["pod"].tw_reuse, **facts)
    return Observation(**facts)
