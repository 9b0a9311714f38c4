"""The agent inside a ceiling's boot: measures one case.

Its request is ``{"case": the fields of a Case, "seed": ...}``. Its events are ``row``, with the row
and the kernel, and ``end``.
"""

from __future__ import annotations

import os
from typing import Any

from twlab.engines.protocol import OnEvent
from twlab.lab.assembly import assemble_nodes
from twlab.linux.sockstat import Sockstat
from twlab.network import load_topology
from twlab.ports import PortChoice
from twlab.settings import Settings
from twlab.studies.ceiling.cases import Case
from twlab.studies.ceiling.search import Opener, measure
from twlab.traffic.load_server import LoadServer


def carry_out(request: dict[str, Any], emit: OnEvent) -> None:
    """Measure the case of `request`; emits one event ``row``."""
    case = Case(**{**request["case"], "choice": PortChoice(request["case"]["choice"])})
    topology = load_topology(f"proxy,servers={case.origins}")
    names = [name for name in topology.nodes() if name not in ("client", "wire")]
    settings = Settings(time_wait_s=case.time_wait_s, port_low=case.port_low, port_high=case.port_high)
    with assemble_nodes(topology, dict.fromkeys(names, settings)) as (loop, network):
        proxy, servers = network["proxy"], [network[name] for name in names if name != "proxy"]
        # Also for 60 s: a length that was asked for is kept to the tick, Linux's constant is not.
        if case.to_the_tick:
            for node in (proxy, *servers):
                node.write_sysctl("net.ipv4.tcp_timewait_len", round(case.time_wait_s * 1000))
        origins = [LoadServer(server, loop, responses=0 if case.opener_closes else 1) for server in servers]
        opener = Opener(case, proxy, [(server.address(), 80) for server in servers], loop)
        row = {**case.as_dict(), **measure(opener)}
        opener.close()
        for origin in origins:
            origin.close()
        row["server_in_time_wait"] = max(Sockstat(server).time_wait() for server in servers)
        emit({"event": "row", "row": row, "kernel": " ".join(os.uname()[2:5])})
    emit({"event": "end"})
