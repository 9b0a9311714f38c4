"""The agent inside a ceiling's boot: measures one case.

Its request is ``{"case": the fields of a Case, "seed": ...}``. Its events are ``row``, with the row
and the kernel, and ``end``.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from twlab.engines.protocol import OnEvent
from twlab.linux.tcp_sockets import Count
from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.ports import PortChoice
from twlab.results.transcript import Transcript
from twlab.settings import Settings
from twlab.studies.ceiling.cases import Case
from twlab.studies.ceiling.search import Opener, measure
from twlab.traffic.load_client import Origin
from twlab.tuning.apply import Tuning


def carry_out(request: dict[str, Any], emit: OnEvent) -> None:
    """Measure the case of `request`; emits one event ``row``."""
    case = Case(**{**request["case"], "choice": PortChoice(request["case"]["choice"])})
    with ExitStack() as stack:
        loop = Loop()
        stack.callback(loop.close)
        network = stack.enter_context(Network(load_topology(f"proxy,servers={case.origins}")))
        proxy = network["proxy"]
        servers = [node for name, node in network.nodes.items() if name not in ("client", "proxy", "wire")]
        settings = Settings(time_wait_s=case.time_wait_s, port_low=case.port_low, port_high=case.port_high)
        for node in (proxy, *servers):
            stack.enter_context(Tuning(node, settings, loop, Transcript(lambda: loop.now_s)))
            # Also for 60 s: a length that was asked for is kept to the tick, Linux's constant is not.
            if case.to_the_tick:
                node.write_sysctl("net.ipv4.tcp_timewait_len", round(case.time_wait_s * 1000))
        origins = [Origin(server, loop, responses=0 if case.opener_closes else 1) for server in servers]
        opener = Opener(case, proxy, [(server.address(), 80) for server in servers], loop)
        row = {**case.as_dict(), **measure(opener)}
        opener.close()
        for origin in origins:
            origin.close()
        at_servers = [Count(server) for server in servers]
        row["server_in_time_wait"] = max(count() for count in at_servers)
        emit({"event": "row", "row": row, "kernel": " ".join(os.uname()[2:5])})
    emit({"event": "end"})
