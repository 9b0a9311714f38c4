"""Predicts the answers of a proxy's clients for other ports, times and rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from twlab.observation import Observation, Range
from twlab.planner.shortage import Shortage
from twlab.ports import LINUX_PORTS
from twlab.settings import Settings


def shortage(proxy: Settings, given: Mapping[str, Any], factor: int) -> Shortage:
    """Return the load on the ports of `proxy`.

    Each port serves `factor` connections: addresses x origins, as far as a port is shared between
    them.
    """
    ports = (proxy.port_high or LINUX_PORTS[1]) - (proxy.port_low or LINUX_PORTS[0]) + 1
    hold_s = proxy.time_wait_s or 60.0
    if proxy.tw_reuse == 1 and proxy.timestamps != 0:
        hold_s = min(reuse_delay_s(proxy), hold_s)
    four_tuples = (ports - ports % 2) * factor
    return Shortage(
        rate_per_s=given["rate_per_s"], duration_s=given["duration_s"], four_tuples=four_tuples, hold_s=hold_s
    )


def reuse_delay_s(settings: Settings) -> float:
    """Return after how many seconds tcp_tw_reuse takes a TIME_WAIT at the latest."""
    return (settings.tw_reuse_delay_ms or 1000) / 1000


def drawn(load: Shortage, addresses: int) -> bool | None:
    """Return whether each of some addresses is short of ports.

    One of them is drawn for each connection. False: none of them is short. None: chance decides,
    within five standard deviations of the share.
    """
    most = load.rate_per_s * min(load.duration_s, load.hold_s + load.late_s)
    share, spread = most / addresses, 5 * math.sqrt(most * (addresses - 1)) / addresses
    ports = load.four_tuples / addresses
    if share + spread <= ports:
        return False
    return True if load.comes and share - spread >= ports else None


def at_size(
    proxy: Settings,
    given: Mapping[str, Any],
    *,
    factor: int,
    fine: Mapping[str, Any],
    short: Mapping[str, Any],
    lasting: bool = False,
    by_lot: int = 1,
) -> Observation | None:
    """Predict an arm with these arguments, or return None where that is not possible.

    It is not where the rate is too near the ceiling, or ports are short with tcp_tw_reuse, too.

    Args:
        given: ``rate_per_s`` and ``duration_s`` of the requests, of which each takes a connection.
        factor: addresses of the proxy x origins, as far as the proxy shares a port between them; 0:
            the way has no ceiling.
        fine, short: facts where the ports suffice, and where they do not.
        lasting: the proxy goes on refusing when ports have come back, so the shortage is only the
            least that is refused.
        by_lot: addresses of which the proxy draws one for each connection.
    """
    total = round(given["rate_per_s"] * given["duration_s"])
    load = shortage(proxy, given, factor or 1)
    comes = load.comes if by_lot == 1 else drawn(load, by_lot)
    if not factor or comes is False:
        return Observation(**fine, answered=total)
    if comes is None or proxy.tw_reuse == 1:
        return None
    failed = load.failed()
    if lasting:
        return Observation(**short, refused=Range(low=failed.low))
    return Observation(**short, answered=Range(max(0, total - int(failed.high or 0)), total - int(failed.low or 0)))
