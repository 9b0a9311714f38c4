"""HAProxy's health check fails for want of ports and takes the server down."""

from twlab import Arm, Lab, Observation, Settings, at_least, between, scenario
from twlab.proxies import HAPROXY
from twlab.proxies.aftermath import aftermath

SCALED = {"proxy": Settings(time_wait_s=4, port_low=40_000, port_high=40_059), "client": Settings(tw_reuse=1)}
OVER = Observation(refused_short=at_least(20), refused_after=0, client_sees="200")
OUTAGE = Observation(
    refused_short=at_least(20), refused_after=at_least(2), client_sees="closed", outage_s=between(0.2, 3.0)
)


def arm(way: str, expect: Observation, settings: Settings | None = None, family: int = 4) -> Arm:
    """Make an arm: a burst, and the calm after it, in one of HAProxy's ways."""
    return Arm(settings or Settings(), on=SCALED, given={"way": way, "family": family}, expect=expect)


@scenario(
    topology="proxy",
    control=arm("tcp", OVER),
    treatment={"check": arm("check", OUTAGE), "check-ipv6": arm("check", OUTAGE, family=6)},
    remedies={
        "no-check-ipv6": arm("tcp", OVER, family=6),
        "tw-reuse": arm("check", Observation(refused_after=0, client_sees="200", outage_s=0), Settings(tw_reuse=1)),
        "enough-ports": Arm(
            Settings(),
            on={**SCALED, "proxy": Settings(time_wait_s=4, port_low=40_000, port_high=40_399)},
            given={"way": "check"},
            expect=Observation(refused_short=0, refused_after=0, client_sees="200", outage_s=0),
        ),
    },
    reads="HAProxy configuration manual 2.6: check, inter, fall, rise",
)
def haproxy_check(lab: Lab, *, way: str = "check", family: int = 4) -> Observation:
    """HAProxy's health check needs a port like any connection: without one it fails, the server is
    taken down, and clients are refused though ports are back.

    Real HTTP crosses a real HAProxy in TCP mode. A burst uses up its 60 ports; TIME_WAIT is 4 s. The
    check connects once a second (`inter 1s`). Three failures in a row (`fall 3`) take the server
    down: `Layer4 connection problem`, for want of a port at HAProxy and not for anything at the
    server. Two successes (`rise 2`) are needed to bring it back, so the shortage lasts a second or
    two longer than the ports are missing. With the default of two seconds between checks it is
    twice that.

    Without `check` the first free port serves the first client. tcp_tw_reuse ends the shortage
    before three checks have failed.
    """
    return aftermath(lab, HAPROXY, way, origins=1, keep_alive=False, calm_s=6.0, family=family)
