"""Squid without a free port, and what helps."""

from collections.abc import Callable, Mapping
from typing import Any

from twlab import Arm, Lab, Observation, Settings, at_least, between, scenario
from twlab.proxies import SQUID
from twlab.proxies.load_test import under_load
from twlab.proxies.sizes import at_size, shortage
from twlab.proxies.squid import binds_first, connect_failed

SCALED = {
    "proxy": Settings(time_wait_s=2, port_low=40_000, port_high=40_059)
}  # 60 ports / 2 s: 30 a second, where Linux has 470.5
BINDS_FIRST = binds_first()  # it depends on Squid's version, and so do the predictions
FINE = {"refused": 0, "client_sees": "200", "proxy_says": "nothing"}
DEAD = Observation(refused=at_least(68), client_sees="502 503", proxy_says=connect_failed(), taken_over=0)
CANNOT_BIND = Observation(
    refused=at_least(68), client_sees="502 503", proxy_says="Cannot bind (98) Address already in use", taken_over=0
)
SHARED = Observation(**FINE, to_origin=at_least(200), in_time_wait=between(90, 106))


def arm(way: str, expect: Observation, origin_closes: bool = False, settings: Settings | None = None) -> Arm:
    """Make an arm: twice as many requests as the ports allow, in one of Squid's ways."""
    return Arm(settings or Settings(), on=SCALED, given={"way": way, "origin_closes": origin_closes}, expect=expect)


FACTORS = {"close": 1, "never-dead": 1, "source": 1, "origins": 2, "sources": 4, "as-it-comes": 0}
FACTORS["origins-source"] = 1 if BINDS_FIRST else 2


SOURCES = 4  # of which Squid draws one for each request
TEN_IN_A_ROW = 20  # failures to an origin, one after the other, that hold ten which no success interrupts


def predict(arm: str, at: Callable[[str], Settings], given: Mapping[str, Any]) -> Observation | None:
    """Predict for other ports, times and rates.

    An origin that Squid takes for dead refuses more than the ports do. None where the shortage may
    be too short for that.
    """
    way = given["way"]
    if way not in FACTORS or given["origin_closes"]:
        return None
    says = "Cannot bind (98) Address already in use" if BINDS_FIRST and "source" in way else connect_failed()
    short = {"client_sees": "502 503", "proxy_says": says, "taken_over": 0}
    lacking = shortage(at("proxy"), given, FACTORS[way] or 1).lacking
    if way == "never-dead":
        short |= {"client_sees": "503"}
    elif FACTORS[way] and 0 < lacking < TEN_IN_A_ROW * max(FACTORS[way], 2 if "origins" in way else 1):
        return None
    return at_size(
        at("proxy"), given, factor=FACTORS[way], fine=FINE, short=short, lasting=way != "never-dead",
        by_lot=SOURCES if way == "sources" else 1,
    )  # fmt: skip


@scenario(
    topology="proxy,sources=4",
    control=Arm(
        Settings(),
        on=SCALED,
        given={"rate_per_s": 20.0},
        expect=Observation(**FINE, answered=80, to_origin=at_least(80)),
    ),
    treatment={
        "close": arm("close", DEAD),
        "source": arm("source", CANNOT_BIND if BINDS_FIRST else DEAD),
        **({"origins-source": arm("origins-source", CANNOT_BIND)} if BINDS_FIRST else {}),
    },
    remedies={
        **({} if BINDS_FIRST else {"origins-source": arm("origins-source", SHARED)}),
        "as-it-comes": arm("as-it-comes", Observation(**FINE, to_origin=between(1, 20), in_time_wait=0)),
        "origin-closes": arm(
            "close", Observation(**FINE, to_origin=at_least(200), in_time_wait=between(0, 45)), origin_closes=True
        ),
        "origins": arm("origins", SHARED),
        "sources": arm("sources", SHARED),
        "never-dead": arm(
            "never-dead", Observation(client_sees="503", proxy_says=connect_failed(), answered=between(112, 130))
        ),
        "tw-reuse": arm(
            "close",
            Observation(**FINE, to_origin=at_least(200), taken_over=between(125, 145)),
            settings=Settings(tw_reuse=1),
        ),
    },
    reads="Squid 5: server_persistent_connections, tcp_outgoing_address, cache_peer (connect-fail-limit); Linux "
    "net/ipv4/inet_connection_sock.c "
    "(inet_csk_get_port)",
    predict=predict,
    sizes=("time_wait_s", "port_low", "port_high", "tw_reuse_delay_ms"),
)
def squid_exhaustion(
    lab: Lab, *, way: str = "close", rate_per_s: float = 50.0, duration_s: float = 4.0, origin_closes: bool = False
) -> Observation:
    """Squid keeps connections to the origin; where it may not, it answers 503 without a port, and
    then gives the whole origin up and answers 502.

    Real HTTP crosses a real Squid in front of an origin. The clients keep their connections to it;
    60 ports and a TIME_WAIT of 2 s stand for 28,232 and 60 s, so the ceiling is 30 connections a
    second. As it comes, Squid needs a handful of connections. With `server_persistent_connections
    off` each request has its own, and Squid closes first if the origin does not. Its log says no
    more than `Connection to ... failed`; the errno (99) is on the error page only.

    After ten failures in a row it declares the origin dead, and answers 502 without trying until a
    probe succeeds, though ports come free all the time: a shortage becomes an outage.
    `connect-fail-limit` keeps that away, not the shortage.

    `tcp_outgoing_address` makes things worse in Squid 5: it binds the address before it knows the
    destination, without IP_BIND_ADDRESS_NO_PORT, and then a port serves one connection alone.
    So a second origin no longer helps (`Cannot bind socket ... (98) Address already in use`);
    several addresses still do. Squid 6 asks with IP_BIND_ADDRESS_NO_PORT, and a second origin helps:
    the predictions follow the version that is installed.
    """
    return under_load(lab, SQUID, way, rate_per_s=rate_per_s, duration_s=duration_s, origin_closes=origin_closes)
