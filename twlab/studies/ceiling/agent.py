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
from twlab.network import Endpoint, Proxy, Topology
from twlab.ports import PortChoice
from twlab.settings import Settings
from twlab.studies.ceiling.cases import Case
from twlab.studies.ceiling.search import Opener, measure
from twlab.traffic.load_server import LoadServer


class Neighbours(Topology):
    """A proxy beside its origins: a server with an address for each of them.

    A ceiling asks nothing of a wire, and a node that forwards is a fifteenth of its time.
    """

    def build(self, origins: int = 1) -> None:
        """Build the network."""
        self.addHost("proxy", cls=Proxy)
        self.addHost("server", cls=Endpoint)
        self.join("server", "proxy", "10.2.1.0/24", addresses=origins)


def carry_out(request: dict[str, Any], emit: OnEvent) -> None:
    """Measure the case of `request`; emits one event ``row``."""
    case = Case(**{**request["case"], "choice": PortChoice(request["case"]["choice"])})
    topology = Neighbours(origins=case.origins)
    settings = Settings(time_wait_s=case.time_wait_s, port_low=case.port_low, port_high=case.port_high)
    with assemble_nodes(topology, dict.fromkeys(topology.nodes(), settings)) as (loop, network):
        proxy, server = network["proxy"], network["server"]
        # Also for 60 s: a length that was asked for is kept to the tick, Linux's constant is not.
        if case.to_the_tick:
            for node in (proxy, server):
                node.write_sysctl("net.ipv4.tcp_timewait_len", round(case.time_wait_s * 1000))
        responses = 0 if case.opener_closes else 1
        origins = [LoadServer(server, loop, address=address, responses=responses) for address in server.addresses()]
        opener = Opener(case, proxy, [(address, 80) for address in server.addresses()], loop)
        row = {**case.as_dict(), **measure(opener)}
        opener.close()
        for origin in origins:
            origin.close()
        row["server_in_time_wait"] = Sockstat(server).time_wait()
        emit({"event": "row", "row": row, "kernel": " ".join(os.uname()[2:5])})
    emit({"event": "end"})
