"""HAProxy without a free port, and what helps."""

from collections.abc import Callable, Mapping
from typing import Any

from twlab import Arm, Lab, Observation, Settings, at_least, between, scenario
from twlab.proxies import HAPROXY
from twlab.proxies.load_test import under_load
from twlab.proxies.sizes import at_size

SCALED = {
    "proxy": Settings(
        time_wait_s=2, port_low=40_000, port_high=40_059
    ),  # 60 ports / 2 s: 30 a second, where Linux has 470.5
    "client": Settings(tw_reuse=1),  # its own ports are not the matter, at any size
}
FINE = {"refused": 0, "client_sees": "200", "proxy_says": "nothing"}
EXHAUSTED = Observation(
    answered=between(112, 130),
    client_sees="closed",
    proxy_says="no free ports",
    in_time_wait=between(56, 60),
    taken_over=0,
)


def arm(way: str, expect: Observation, settings: Settings | None = None) -> Arm:
    """Twice as many connections as the ports allow, reached in one of HAProxy's ways."""
    return Arm(settings or Settings(), on=SCALED, given={"way": way}, expect=expect)


FACTORS = {
    "tcp": 1,
    "source": 1,
    "origins": 2,
    "origins-source": 2,
    "sources": 4,
    "http": 0,
    "http-close": 0,
    "http-reuse": 0,
    "nolinger": 0,
}


def predict(arm: str, at: Callable[[str], Settings], given: Mapping[str, Any]) -> Observation | None:
    """For other ports, times and rates."""
    if given["way"] not in FACTORS:
        return None
    short = {"client_sees": "closed", "proxy_says": "no free ports", "taken_over": 0}
    return at_size(at("proxy"), given, factor=FACTORS[given["way"]], fine=FINE, short=short)


@scenario(
    topology="proxy,sources=4",
    control=Arm(
        Settings(), on=SCALED, given={"rate_per_s": 20.0}, expect=Observation(**FINE, answered=80, to_origin=80)
    ),
    treatment={"tcp": arm("tcp", EXHAUSTED), "source": arm("source", EXHAUSTED)},
    remedies={
        "http": arm("http", Observation(**FINE, to_origin=200, resets=at_least(190), in_time_wait=0)),
        "http-close": arm("http-close", Observation(**FINE, to_origin=200, resets=at_least(195), in_time_wait=0)),
        "http-reuse": arm("http-reuse", Observation(**FINE, to_origin=between(1, 10), in_time_wait=0)),
        "origins": arm("origins", Observation(**FINE, to_origin=200, in_time_wait=between(90, 104))),
        "origins-source": arm("origins-source", Observation(**FINE, to_origin=200, in_time_wait=between(90, 104))),
        "sources": arm("sources", Observation(**FINE, to_origin=200, in_time_wait=between(90, 104))),
        "port-range": arm("port-range", Observation(**FINE, to_origin=200, taken_over=between(130, 142))),
        "port-range-no-timestamps": arm("port-range", EXHAUSTED, Settings(timestamps=0)),
        "tw-reuse": arm(
            "tcp", Observation(**FINE, to_origin=200, taken_over=between(130, 142)), settings=Settings(tw_reuse=1)
        ),
        "nolinger": arm("nolinger", Observation(**FINE, to_origin=200, resets=at_least(195), in_time_wait=0)),
    },
    reads="HAProxy configuration manual 2.6: source, http-reuse, option http-server-close, option nolinger; "
    "Linux net/ipv4/tcp_ipv4.c (tcp_twsk_unique)",
    predict=predict,
    sizes=("time_wait_s", "port_low", "port_high", "tw_reuse_delay_ms"),
)
def haproxy_exhaustion(lab: Lab, *, way: str = "tcp", rate_per_s: float = 50.0, duration_s: float = 4.0) -> Observation:
    """HAProxy in TCP mode runs out of ports at ports / TIME_WAIT new connections a second; in HTTP
    mode it leaves no TIME_WAIT towards origins.

    Real HTTP crosses a real HAProxy. Each request comes on a separate connection, which the client
    closes first; 60 ports and a TIME_WAIT of 2 s stand for 28,232 and 60 s, so the ceiling is 30 a
    second. Past it HAProxy tries four times within the same millisecond, logs `no free ports` eight
    times, and closes the client's connection without a byte: session state SC in its log.

    In HTTP mode it ends a connection to the origin that it does not keep with a RST, once the whole
    answer is there. So there is no TIME_WAIT, as with `option nolinger`, and none of its protection
    either; `http-reuse always` opens hardly any connection, which is better.

    `source` with a range of ports lifts the ceiling altogether, however few ports are in it: an
    application that names its port takes it over from TIME_WAIT at once, if the old connection used
    timestamps (counter TWRecycled; see `tw-reuse-safe`). Without timestamps nothing is gained.
    `source` with an address alone asks with IP_BIND_ADDRESS_NO_PORT, and changes nothing: a port
    still serves each origin once.
    """
    return under_load(lab, HAPROXY, way, rate_per_s=rate_per_s, duration_s=duration_s, keep_alive=False)
