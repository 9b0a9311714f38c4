"""Runs a proxy through a short shortage of ports, and observes what follows."""

from __future__ import annotations

from twlab.lab.lab import Lab
from twlab.observation import Observation
from twlab.proxies import load_test
from twlab.proxies.software import Software, Upstream
from twlab.traffic.http import WebClients

_CALM_PER_S = 4.0
_BURST_S = 1.5
_BURST_PER_S = 80.0  # for each origin: more than its 60 ports
_RETURNED_S = 0.2  # after TIME_WAIT the first ports are back, and more follow than the calm needs


def aftermath(
    lab: Lab, software: Software, way: str, *, origins: int, keep_alive: bool, calm_s: float, family: int = 4
) -> Observation:
    """Have a burst use up the ports, then ask calmly, without ports and with.

    Args:
        way: one of `software.ways`.
        origins: how many of the two that way uses: the burst is as much larger.
        keep_alive: the clients keep their connections to the proxy.
        calm_s: how long the calm lasts once ports are back.
        family: IP version towards the origin.

    Returns:
        ``refused_short``: requests that failed while ports were short; ``refused_after``: requests
        that failed though there were ports; ``client_sees``: how those failed, ``200`` without any;
        ``outage_s``: seconds from the ports' return to the last of them, 0 without any.

    Raises:
        CapabilityError, UsageError, ScenarioError: as `twlab.proxies.load_test.under_load`.
    """
    proxy = lab.network["proxy"]
    time_wait_s = lab.settings["proxy"].time_wait_s or 60.0
    servers = load_test.origins(lab, hang_up=False, family=family)

    lab.step(f"{software.name} starts: {software.ways.get(way, way)}.")
    upstream = Upstream(origins=[server.address for server in servers], sources=proxy.addresses(family))
    with load_test.running(lab, proxy, software, way, upstream):
        lab.step(f"A burst of {_BURST_PER_S * origins:g} requests a second, for {_BURST_S:g} s.")
        began_s = lab.now_s
        burst = _asked(lab, _BURST_PER_S * origins, _BURST_S, keep_alive)
        back_s = began_s + time_wait_s + _RETURNED_S
        lab.step(f"From now on {_CALM_PER_S:g} requests a second; there are no ports yet.")
        without = _asked(lab, _CALM_PER_S, max(0.3, back_s - lab.now_s), keep_alive)
        lab.sleep_until(back_s)
        lab.step("The ports come back.")
        after = _asked(lab, _CALM_PER_S, calm_s, keep_alive)
    refused, outage_s = load_test.refused(after), after.last_failure_s or 0.0
    if refused:
        lab.note(f"{refused} requests failed though there were ports, the last one {outage_s:.2f} s after their return")
    return Observation(
        refused_short=load_test.refused(burst) + load_test.refused(without),
        refused_after=refused,
        client_sees=load_test.seen(after),
        outage_s=round(outage_s, 2),
    )


def _asked(lab: Lab, rate_per_s: float, duration_s: float, keep_alive: bool) -> WebClients:
    """Ask at a steady rate; return the clients once they are done."""
    clients = load_test.ask(lab, rate_per_s=rate_per_s, duration_s=duration_s, keep_alive=keep_alive)
    lab.loop.wait_until(lambda: clients.done, duration_s + clients.patience_s + 1)
    return clients
