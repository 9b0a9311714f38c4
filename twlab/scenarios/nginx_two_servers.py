"""nginx with two servers makes an outage of a shortage, and what prevents it."""

from twlab import Arm, Lab, Observation, Settings, at_least, between, scenario
from twlab.proxies import NGINX
from twlab.proxies.aftermath import aftermath

SCALED = {"proxy": Settings(time_wait_s=4, port_low=40_000, port_high=40_059)}
OVER = Observation(refused_short=at_least(20), refused_after=0, client_sees="200")
OUTAGE = Observation(
    refused_short=at_least(20), refused_after=at_least(16), client_sees="502", outage_s=between(4.0, 9.0)
)


def arm(way: str, origins: int, expect: Observation, settings: Settings | None = None, family: int = 4) -> Arm:
    """Make an arm: a burst, and the calm after it, in one of nginx's ways."""
    return Arm(
        settings or Settings(), on=SCALED, given={"way": way, "origins": origins, "family": family}, expect=expect
    )


@scenario(
    topology="proxy",
    control=arm("as-it-comes", 1, OVER),
    treatment={"two": arm("origins", 2, OUTAGE), "two-ipv6": arm("origins", 2, OUTAGE, family=6)},
    remedies={
        "max-fails-0": arm("origins-never-down", 2, OVER),
        "max-fails-0-ipv6": arm("origins-never-down", 2, OVER, family=6),
        "tw-reuse": arm(
            "origins",
            2,
            Observation(refused_after=at_least(16), client_sees="502", outage_s=between(4.0, 9.0)),
            Settings(tw_reuse=1),
        ),
        "enough-ports": Arm(
            Settings(),
            on={"proxy": Settings(time_wait_s=4, port_low=40_000, port_high=40_399)},
            given={"way": "origins", "origins": 2},
            expect=Observation(refused_short=0, refused_after=0, client_sees="200", outage_s=0),
        ),
    },
    reads="nginx: ngx_http_upstream_module (server: max_fails, fail_timeout)",
)
def nginx_two_servers(lab: Lab, *, way: str = "origins", origins: int = 2, family: int = 4) -> Observation:
    """nginx that balances between two servers takes both out for ten seconds when it has no port for
    either, and answers 502 though the ports are back.

    Real HTTP crosses a real nginx. A burst uses up 60 ports to each of two servers; TIME_WAIT is
    4 s. A connect() that fails for want of a port counts as a failure of the server (`max_fails=1`,
    `fail_timeout=10s`, both by default), so both servers are down, and stay down when the ports
    have come back. The error log then says `no live upstreams`. With one server only nginx never
    does that, since `max_fails` is ignored then.

    `max_fails=0` keeps both servers in: requests fail while there is no port, and no longer. So do
    ports enough. tcp_tw_reuse makes the shortage shorter, not the outage: one failed connect is
    enough for the ten seconds.
    """
    return aftermath(lab, NGINX, way, origins=origins, keep_alive=True, calm_s=12.0, family=family)
