"""A gVisor server that closes first, and two clients behind one NAT gateway."""

from collections.abc import Callable, Mapping
from typing import Any

from twlab import Arm, Lab, Observation, Settings, between, scenario
from twlab.ports import PortChoice
from twlab.scenarios.nat_second_client import interval
from twlab.segment import Segment, match
from twlab.stacks import boot
from twlab.stacks.gvisor import TIME_WAIT_S
from twlab.traffic.load_client import Load, LoadClient, LoadServer

PAIRS, FIRST_PORT = 40, 40_000
TABLE = "Second clients on the TIME_WAIT of first ones, by the server's TCP stack"
GVISOR = {"server": "gvisor"}
ALL = {"connected": PAIRS, "slowest_s": between(0, 0.9)}
# Above or below the old connection's numbers: a coin toss for each, wrong once in a million runs.
HALF = Observation(same_port=PAIRS, connected=between(5, PAIRS - 5), slowest_s=between(0, 0.9))


def predict(arm: str, at: Callable[[str], Settings], given: Mapping[str, Any]) -> Observation | None:
    """Predict for other numbers of SYNs: enough of them outlast gVisor's TIME_WAIT."""
    own = gvisor_behind_nat.arms[arm]
    before = {**gvisor_behind_nat.parameters, **own.given, "family": given["family"]}
    if given != before or (at("c2").syn_retries or 6) < 6:
        return None
    if own.expect is not HALF:
        return own.expect
    return Observation(same_port=PAIRS, connected=PAIRS, slowest_s=between(TIME_WAIT_S - 4, TIME_WAIT_S + 12))


@scenario(
    topology="nat,clients=2,server={server}",
    base=Settings(timestamps=1, nat_time_wait_s=1, syn_retries=1),
    control=Arm(Settings(), expect=Observation(same_port=PAIRS, **ALL)),
    treatment={
        "gvisor": Arm(Settings(), given=GVISOR, expect=HALF),
        "gvisor-ipv6": Arm(Settings(), given=GVISOR | {"family": 6}, expect=HALF),
        "gvisor-no-timestamps": Arm(Settings(timestamps=0), given=GVISOR, expect=HALF),
    },
    remedies={
        "gateway-remembers": Arm(Settings(nat_time_wait_s=120), given=GVISOR, expect=Observation(same_port=0, **ALL)),
        "client-closes": Arm(
            Settings(), given=GVISOR | {"client_closes": True}, expect=Observation(same_port=PAIRS, **ALL)
        ),
    },
    reads="RFC 1122 section 4.2.2.13; RFC 6191; RFC 9293 section 3.6.1; gVisor pkg/tcpip/transport/tcp/rcv.go "
    "(handleTimeWaitSegment); Linux net/ipv4/tcp_minisocks.c (tcp_timewait_state_process), net/core/secure_seq.c",
    predict=predict,
    sizes=("syn_retries",),
)
def gvisor_behind_nat(lab: Lab, *, server: str = "linux", client_closes: bool = False, family: int = 4) -> Observation:
    """A client behind a NAT gateway that gets the port of another one's last connection meets
    silence at a gVisor server for up to a minute, as often as a coin falls; at a Linux server it
    connects in milliseconds.

    The server closed first and is in TIME_WAIT. The gateway has forgotten, and gives both clients
    the same outside port. gVisor opens its TIME_WAIT for a SYN above the old connection's sequence
    numbers, as Linux does; timestamps it does not look at. For a client that comes back itself that
    is enough: its numbers rise with its clock (`origin-closes-first`, arm `gvisor`). Another
    client's numbers are unrelated, and half of them are below. gVisor drops such a SYN without an
    answer. So there is no reset that could end TIME_WAIT, and gVisor would ignore that, too
    (`syn-into-lwip`). The client's SYNs get no answer until TIME_WAIT ends, here until the client
    gives up; with ``--set syn_retries=6``, which is Linux's number, all connect, the slowest after
    63 s.

    A Linux server with timestamps refuses a SYN that is older, but by an acknowledgement, which the
    client resets (control, see `nat-second-client`). A gateway that remembers for longer than the
    server gives the second client other ports. Where the client closes first, no TIME_WAIT is left
    at the server.
    """
    first, second, far = lab["c1"].node, lab["c2"].node, lab["server"].node
    if stack := boot(lab, "server"):
        stack.listen(80, "read" if client_closes else "close")
    else:
        lab.closing.callback(LoadServer(far, lab.loop, address=far.address(family), responses=1).close)
    syns = lab.wire.watch(match(flags="S"))
    load = Load(
        rate_per_s=PAIRS * 10,
        duration_s=0.1,
        targets=[(far.address(family), 80)],
        ports=PortChoice.EXPLICIT,
        port_range=(FIRST_PORT, FIRST_PORT + PAIRS - 1),
        opener_closes=client_closes,
        patience_s=140.0,  # longer than the clients' kernel has
    )

    lab.step(
        f"The first client connects from {PAIRS} ports; the {'client' if client_closes else 'server'} closes first."
    )
    LoadClient(first, lab.loop, load).run()
    before = by_port(syns.segments)
    lab.require(len(before) == PAIRS, "the first client's connections are opened")
    lab.sleep(1.2)

    lab.step("The gateway forgets them, if its timer is that short. The second client connects from the same ports.")
    counts = LoadClient(second, lab.loop, load).run()
    after = by_port(syns.segments[sum(map(len, before.values())) :])
    connected = sum(one.connected for one in counts.seconds)
    slowest_s = max((one.connect_worst_us or 0) for one in counts.seconds) / 1e6
    low, high = interval(connected, PAIRS)
    repeated = sum(len(of_one) > 1 for of_one in after.values())
    lab.row(
        TABLE, server=server, connected=connected, share=connected / PAIRS, from_share=low, to_share=high,
        second_syns=repeated, slowest_ms=slowest_s * 1000,
    )  # fmt: skip
    return Observation(same_port=len(before.keys() & after.keys()), connected=connected, slowest_s=round(slowest_s, 3))


def by_port(syns: list[Segment]) -> dict[int, list[Segment]]:
    """Sort SYNs by their source port."""
    found: dict[int, list[Segment]] = {}
    for syn in syns:
        found.setdefault(syn.source_port, []).append(syn)
    return found
