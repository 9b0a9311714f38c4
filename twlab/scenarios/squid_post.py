"""Squid opens a connection of its own for every POST, and what helps."""

from twlab import Arm, Lab, Observation, Settings, at_least, between, scenario
from twlab.proxies import SQUID
from twlab.proxies.load_test import under_load
from twlab.proxies.squid import connect_failed

SCALED = {"proxy": Settings(time_wait_s=2, port_low=40_000, port_high=40_059)}
FINE = {"refused": 0, "client_sees": "200", "proxy_says": "nothing"}
KEPT = Observation(**FINE, to_origin=between(1, 20), in_time_wait=0)


def arm(expect: Observation, settings: Settings | None = None, **given: object) -> Arm:
    """Make an arm: twice as many requests as the ports allow, POST where `given` names no other."""
    return Arm(settings or Settings(), on=SCALED, given=given, expect=expect)


@scenario(
    topology="proxy",
    control=arm(KEPT, method="GET"),
    treatment=arm(Observation(refused=at_least(68), client_sees="502 503", proxy_says=connect_failed())),
    remedies={
        "kept-for-post": arm(KEPT, way="kept-for-post"),
        "tw-reuse": arm(Observation(**FINE, to_origin=at_least(200)), Settings(tw_reuse=1)),
        "fewer": arm(Observation(**FINE, answered=80, to_origin=at_least(80)), rate_per_s=20.0),
    },
    reads="Squid 5: src/FwdState.cc (FwdState::checkRetriable), src/pconn.cc (PconnPool::pop); RFC 9110 section 9.2.2",
)
def squid_post(
    lab: Lab,
    *,
    way: str = "as-it-comes",
    method: str = "POST",
    rate_per_s: float = 50.0,
    duration_s: float = 4.0,
) -> Observation:
    """Squid keeps its connections to the origin for what it can send again: each POST opens one of its
    own, and the ports run out as if nothing were kept.

    Real HTTP crosses a real Squid as it comes, with persistent connections on. For 200 GET requests
    it needs a handful of connections. A POST is not sent on a connection that has been used before:
    the origin may close it at that moment, and a POST may not be repeated. Squid even closes an idle
    connection for each POST. So 200 POST requests are 200 connections, and each leaves a TIME_WAIT
    at Squid. 60 ports and 2 s stand for 28,232 and 60 s.

    `server_pconn_for_nonretriable allow all` has a POST take an idle connection, too; where the
    origin closes it at that moment, the client gets an error. tcp_tw_reuse helps, and so does all
    that helps without kept connections (`squid-exhaustion`).
    """
    return under_load(lab, SQUID, way, rate_per_s=rate_per_s, duration_s=duration_s, method=method)
