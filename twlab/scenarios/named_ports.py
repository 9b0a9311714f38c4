"""Named ports, with and without SO_REUSEADDR, with and without timestamps."""

from twlab import Arm, Lab, Observation, Settings, between, scenario
from twlab.ports import PortChoice
from twlab.traffic.load_client import Load, LoadClient, LoadServer

PORTS, ASKED = 10, 30
FINE = Observation(connected=ASKED, error="")


def arm(reuse_address: bool, expect: Observation, settings: Settings | None = None, family: int = 4) -> Arm:
    """Make an arm: three connections for each named port."""
    return Arm(settings or Settings(), given={"reuse_address": reuse_address, "family": family}, expect=expect)


@scenario(
    topology="proxy",
    base=Settings(time_wait_s=20),
    control=arm(True, FINE),
    treatment={
        "no-reuse-address": arm(False, Observation(connected=PORTS, error="bind EADDRINUSE")),
        "no-reuse-address-ipv6": arm(False, Observation(connected=PORTS, error="bind EADDRINUSE"), family=6),
        "no-timestamps": arm(True, Observation(connected=PORTS, error="connect EADDRNOTAVAIL"), Settings(timestamps=0)),
    },
    remedies={
        "reuse-address-ipv6": arm(True, FINE, family=6),
        "tw-reuse": arm(False, Observation(connected=PORTS, error="bind EADDRINUSE"), Settings(tw_reuse=1)),
        "short-time-wait": arm(False, Observation(connected=between(ASKED - 1, ASKED)), Settings(time_wait_s=0.3)),
    },
    reads="Linux net/ipv4/inet_connection_sock.c (inet_csk_get_port, inet_csk_bind_conflict), net/ipv4/tcp_ipv4.c "
    "(tcp_twsk_unique); HAProxy configuration manual: source",
)
def named_ports(lab: Lab, *, reuse_address: bool = True, family: int = 4) -> Observation:
    """A program that names its ports takes them over from TIME_WAIT only if it sets SO_REUSEADDR, and
    both ends use timestamps.

    Ten ports, named in turn by bind(), serve thirty connections in three seconds; TIME_WAIT is 20 s.
    Without SO_REUSEADDR bind() refuses a port in TIME_WAIT, to whichever destination: EADDRINUSE,
    also with tcp_tw_reuse, which only connect() asks. With it bind() succeeds, and connect() then
    decides: a four-tuple in TIME_WAIT is taken over if the old connection used timestamps, else
    EADDRNOTAVAIL. HAProxy's `source` with a range of ports sets the option. This is the one case in
    which SO_REUSEADDR matters to a client (see `port-exhaustion`, arm `reuse-address`).
    """
    proxy, server = lab["proxy"].node, lab["server"].node
    address = server.address(family)
    answers = LoadServer(server, lab.loop, address=address, request_bytes=0, response=b"", responses=0)
    lab.closing.callback(answers.close)
    lab.step(f"Thirty connections from ports 20000 to {20_000 + PORTS - 1}, named in turn.")
    load = Load(
        rate_per_s=10,
        duration_s=ASKED / 10,
        targets=[(address, 80)],
        sources=[proxy.address(family)],
        ports=PortChoice.EXPLICIT,
        port_range=(20_000, 20_000 + PORTS - 1),
        reuse_address=reuse_address,
    )
    tally = LoadClient(proxy, lab.loop, load).run()
    connected = sum(second.connected for second in tally.seconds)
    return Observation(connected=connected, error=next(iter(tally.failed), ""))
