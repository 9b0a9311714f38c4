"""Varnish's holddown makes an outage of a shortage, and what prevents it."""

from twlab import Arm, Lab, Observation, Settings, at_least, between, scenario
from twlab.proxies.aftermath import aftermath
from twlab.proxies.varnish import VARNISH

SCALED = {"proxy": Settings(time_wait_s=4, port_low=40_000, port_high=40_059)}
FINE = Observation(refused_short=0, refused_after=0, client_sees="200", outage_s=0)
OVER = Observation(refused_short=at_least(20), refused_after=0, client_sees="200", outage_s=0)
OUTAGE = Observation(
    refused_short=at_least(20), refused_after=at_least(16), client_sees="503", outage_s=between(4.5, 8.0)
)


def arm(way: str, expect: Observation, settings: Settings | None = None, family: int = 4) -> Arm:
    """Make an arm: a burst, and the calm after it, in one of Varnish's ways."""
    return Arm(settings or Settings(), on=SCALED, given={"way": way, "family": family}, expect=expect)


@scenario(
    topology="proxy",
    control=Arm(
        Settings(),
        on={"proxy": Settings(time_wait_s=4, port_low=40_000, port_high=40_399)},
        given={"way": "close"},
        expect=FINE,
    ),
    treatment={"holddown": arm("close", OUTAGE), "holddown-ipv6": arm("close", OUTAGE, family=6)},
    remedies={
        "no-holddown": arm("no-holddown", OVER),
        "no-holddown-ipv6": arm("no-holddown", OVER, family=6),
        "tw-reuse": arm(
            "close",
            Observation(refused_after=at_least(16), client_sees="503", outage_s=between(4.5, 8.0)),
            Settings(tw_reuse=1),
        ),
    },
    reads="Varnish 7.1: varnishd(1), backend_local_error_holddown; bin/varnishd/cache/cache_conn_pool.c",
)
def varnish_holddown(lab: Lab, *, way: str = "close", family: int = 4) -> Observation:
    """One connect() that finds no port costs Varnish ten seconds: until then it answers every request
    with 503 and does not even try, though ports are back.

    Real HTTP crosses a real Varnish that passes each request on over a connection of its own. A
    burst uses up its 60 ports; TIME_WAIT is 4 s. The first connect() that fails with EADDRNOTAVAIL
    makes it hold down the backend for `backend_local_error_holddown`, 10 s by default. Ports come
    back after 4 s, and Varnish asks for none.

    With `-p backend_local_error_holddown=0` requests fail while there is no port, and no longer. So
    ports enough help. tcp_tw_reuse makes the shortage shorter, not the outage: it lets a port go
    after a second, and one failed connect before that is enough for the ten.
    """
    return aftermath(lab, VARNISH, way, origins=1, keep_alive=True, calm_s=9.0, family=family)
