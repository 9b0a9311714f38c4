"""nginx without a free port, and what helps."""

from collections.abc import Callable, Mapping
from typing import Any

from twlab import Arm, Lab, Observation, Settings, between, scenario
from twlab.planner.shortage import Shortage
from twlab.proxies import NGINX
from twlab.proxies.load_test import under_load
from twlab.proxies.sizes import at_size, shortage

SCALED = {
    "proxy": Settings(time_wait_s=2, port_low=40_000, port_high=40_059)
}  # 60 ports / 2 s: 30 a second, where Linux has 470.5
FINE = {"refused": 0, "client_sees": "200", "proxy_says": "nothing"}
NO_ADDRESS = "connect failed (99: Cannot assign requested address)"
EXHAUSTED = Observation(
    answered=between(112, 130), client_sees="502", proxy_says=NO_ADDRESS, in_time_wait=between(56, 60), taken_over=0
)


def arm(way: str, expect: Observation, settings: Settings | None = None) -> Arm:
    """Make an arm: twice as many requests as the ports allow, in one of nginx's ways."""
    return Arm(settings or Settings(), on=SCALED, given={"way": way}, expect=expect)


FACTORS = {
    "as-it-comes": 1,
    "keepalive-alone": 1,
    "source": 1,
    "origins": 2,
    "origins-source": 2,
    "sources": 4,
    "keepalive": 0,
}


SOURCES = 4  # of which `split_clients` chooses one by a hash: in equal shares, and no more evenly than by lot
# fail_timeout, and the second in which it ends
DOWN_S, DOWN_AT_MOST_S = 10.0, 11.1


def predict(arm: str, at: Callable[[str], Settings], given: Mapping[str, Any]) -> Observation | None:
    """Predict for other ports, times and rates.

    Where the origin closes at once, the first to close has the TIME_WAIT, which does not depend on
    size. Two origins are both taken out as soon as one connect has failed at each.
    """
    way = given["way"]
    if way not in FACTORS or given["origin_closes"]:
        return None
    short = {"client_sees": "502", "proxy_says": NO_ADDRESS, "taken_over": 0}
    load = shortage(at("proxy"), given, FACTORS[way] or 1)
    if "origins" in way and load.comes:
        answered = between(in_bursts(load, DOWN_AT_MOST_S) - 2, in_bursts(load, DOWN_S) + 2)
        back = load.hold_s < DOWN_S or load.duration_s < load.first_failure_s + DOWN_S
        return Observation(**short, answered=answered) if back and at("proxy").tw_reuse != 1 else None
    by_lot = SOURCES if way == "sources" else 1
    return at_size(at("proxy"), given, factor=FACTORS[way], fine=FINE, short=short, by_lot=by_lot)


def in_bursts(load: Shortage, down_s: float) -> int:
    """Return how many requests are answered before both origins are down, each time that they are up."""
    turns, rest_s = divmod(load.duration_s, load.first_failure_s + down_s)
    return int(turns * load.four_tuples + min(load.four_tuples, load.rate_per_s * rest_s))


@scenario(
    topology="proxy,sources=4",
    control=Arm(
        Settings(), on=SCALED, given={"rate_per_s": 20.0}, expect=Observation(**FINE, answered=80, to_origin=80)
    ),
    treatment={
        "as-it-comes": arm("as-it-comes", EXHAUSTED),
        "keepalive-alone": arm("keepalive-alone", EXHAUSTED),
        "source": arm("source", EXHAUSTED),
    },
    remedies={
        "keepalive": arm("keepalive", Observation(**FINE, to_origin=between(1, 20), in_time_wait=0)),
        "origins": arm("origins", Observation(**FINE, to_origin=200, in_time_wait=between(90, 104))),
        "origins-source": arm("origins-source", Observation(**FINE, to_origin=200, in_time_wait=between(90, 104))),
        "sources": arm("sources", Observation(**FINE, to_origin=200, in_time_wait=between(90, 104))),
        "tw-reuse": arm(
            "as-it-comes",
            Observation(**FINE, to_origin=200, taken_over=between(130, 142)),
            settings=Settings(tw_reuse=1),
        ),
    },
    reads="nginx: ngx_http_upstream_module (keepalive), ngx_http_proxy_module (proxy_bind, proxy_http_version); "
    "Linux net/ipv4/inet_hashtables.c "
    "(__inet_hash_connect)",
    predict=predict,
    sizes=("time_wait_s", "port_low", "port_high", "tw_reuse_delay_ms"),
)
def nginx_exhaustion(
    lab: Lab,
    *,
    way: str = "as-it-comes",
    rate_per_s: float = 50.0,
    duration_s: float = 4.0,
    origin_closes: bool = False,
) -> Observation:
    """nginx opens a connection to the origin for each request unless told otherwise, and answers
    502 once its ports are in TIME_WAIT.

    Real HTTP crosses a real nginx. The clients keep their connections to it; 60 ports and a
    TIME_WAIT of 2 s stand for 28,232 and 60 s, so the ceiling is 30 requests a second. Past it the
    error log says `connect() to ... failed (99: Cannot assign requested address)` for every
    request, and the client sees 502 at once.

    As it comes before 1.29.7, and here in any version, nginx speaks HTTP/1.0 to origins and closes
    as soon as it has the answer's last byte, so TIME_WAIT is here even though the origin was asked
    to close. An origin that hangs up at once (`--set origin_closes=on`) may be faster: always in
    the lab kernel, which has one processor, and now and then on more. The directive `keepalive`
    alone changes nothing, because `Connection: close` still goes out with every request; with
    `proxy_http_version 1.1` and an empty `Connection` header, which are the default from 1.29.7 on,
    a handful of connections carry everything.

    `proxy_bind` with an address asks with IP_BIND_ADDRESS_NO_PORT, so a port still serves each
    origin once; with several addresses, chosen for each request by `split_clients`, the ceiling
    multiplies. It does so on average: the hash falls unevenly, and just below the ceiling some
    address has no port left. `tcp_tw_reuse` helps, too: the kernel chooses nginx's ports. A second
    origin doubles the ceiling, and past it makes an outage of the shortage (`nginx-two-servers`).
    """
    return under_load(lab, NGINX, way, rate_per_s=rate_per_s, duration_s=duration_s, origin_closes=origin_closes)
