"""Runs a proxy through a short shortage of ports, and observes what follows."""

from __future__ import annotations

from collections import Counter

from twlab.lab.lab import Lab
from twlab.observation import Observation
from twlab.proxies.load_test import running
from twlab.proxies.software import PORT, Software, Upstream
from twlab.traffic.http import WebClients, WebServer

_ORIGIN_PORTS = (80, 81)
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
        ScenarioError: the ports did not run out (``premise-failed``); and as `running`.
    """
    proxy = lab.network["proxy"]
    time_wait_s = lab.settings["proxy"].time_wait_s or 60.0
    servers = [
        WebServer(lab.network["server"], lab.loop, port, hangs_up=False, family=family) for port in _ORIGIN_PORTS
    ]
    for server in servers:
        lab.closing.callback(server.close)
    address = proxy.interface_to("client").all4[0], PORT

    def ask(rate_per_s: float, duration_s: float) -> WebClients:
        clients = WebClients(
            lab.network["client"],
            lab.loop,
            address,
            rate_per_s=rate_per_s,
            duration_s=duration_s,
            keep_alive=keep_alive,
        )
        lab.closing.callback(clients.close)
        lab.loop.wait_until(lambda: clients.done, duration_s + clients.patience_s + 1)
        return clients

    lab.step(f"{software.name} starts: {software.ways.get(way, way)}.")
    upstream = Upstream(origins=[server.address for server in servers], sources=proxy.addresses(family))
    with running(lab, proxy, software, way, upstream):
        lab.step(f"A burst of {_BURST_PER_S * origins:g} requests a second, for {_BURST_S:g} s.")
        began_s = lab.now_s
        answers: Counter[str] = Counter(ask(_BURST_PER_S * origins, _BURST_S).answers)
        back_s = began_s + time_wait_s + _RETURNED_S
        lab.step(f"From now on {_CALM_PER_S:g} requests a second; there are no ports yet.")
        answers += ask(_CALM_PER_S, max(0.3, back_s - lab.now_s)).answers
        lab.sleep_until(back_s)
        lab.step("The ports come back.")
        after = ask(_CALM_PER_S, calm_s)
    short = answers.total() - answers["200"]
    refused = after.answers.total() - after.answers["200"]
    outage_s = 0.0 if after.last_failure_s is None else after.last_failure_s
    if refused:
        lab.note(f"{refused} requests failed though there were ports, the last one {outage_s:.2f} s after their return")
    return Observation(
        refused_short=short,
        refused_after=refused,
        client_sees=" ".join(sorted(set(after.answers) - {"200"})) or "200",
        outage_s=round(outage_s, 2),
    )
