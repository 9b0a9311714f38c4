"""Who reaches whom in each topology: as it should be, and as it is. Also an agent of the guest
engine: each topology makes one event.
"""

import select
import socket
import time
from collections.abc import Callable
from typing import Any

from twlab.network import Network, load_topology

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
PATIENCE_S = 10.0  # for what must arrive
DENIAL_S = 0.5  # for what must not

# Topology with options, and by node name which endpoints it can connect to.
REACHES: dict[str, dict[str, str]] = {
    "pair": {"client": "server", "server": "client"},
    "pair,mtu=9000": {"client": "server", "server": "client"},
    "proxy": {"client": "proxy", "proxy": "client server", "server": "proxy"},
    "proxy,clients=2,servers=3,sources=4": {
        "c1": "proxy",
        "c2": "proxy",
        "proxy": "c1 c2 s1 s2 s3",
        "s1": "proxy s2 s3",
        "s2": "proxy s1 s3",
        "s3": "proxy s1 s2",
    },
    "nat": {"client": "server", "server": ""},
    "nat,clients=3,servers=2": {"c1": "c2 c3 s1 s2", "c2": "c1 c3 s1 s2", "c3": "c1 c2 s1 s2", "s1": "s2", "s2": "s1"},
    "campus": {"c1": "proxy", "c2": "proxy", "proxy": "server", "server": "proxy"},
    "campus,clients=2,servers=2": {
        "c1": "c2 proxy",
        "c2": "c1 proxy",
        "c3": "c4 proxy",
        "c4": "c3 proxy",
        "proxy": "s1 s2",
        "s1": "proxy s2",
        "s2": "proxy s1",
    },
    "sidecar": {"pod": "server", "server": "pod"},
    "vip": {"client": "s1 s2", "s1": "client s2", "s2": "client s1"},
    "dnat": {"client": "s1 s2", "s1": "client s2", "s2": "client s1"},
    "dnat,servers=3,choice=hash,weights=0-2-1": {
        "client": "s1 s2 s3",
        "s1": "client s2 s3",
        "s2": "client s1 s3",
        "s3": "client s1 s2",
    },
    "two-balancers": {"client": "s1 s2", "s1": "client s2", "s2": "client s1"},
    "two-balancers,choice=random": {"client": "s1 s2", "s1": "client s2", "s2": "client s1"},
    "ipvs": {"client": "s1 s2", "s1": "client s2", "s2": "client s1"},
    "ipvs,forwarding=direct,scheduler=sh": {"client": "s1 s2", "s1": "client s2", "s2": "client s1"},
    "ipvs,forwarding=tunnel,weights=2-1,persistent_s=60": {"client": "s1 s2", "s1": "client s2", "s2": "client s1"},
}
ON_THE_HOST = [text for text in REACHES if not text.startswith("ipvs")]  # it takes no orders in a sandbox


def connections(text: str, family: int) -> dict[str, list[str]]:
    """By endpoint, those that it gets a TCP connection to; all are tried at once."""
    with Network(load_topology(text)) as network:
        endpoints = [node for node in network if node.role == "endpoint"]
        expected = sum(len(names.split()) for names in REACHES[text].values())
        waiting: dict[socket.socket, tuple[str, str]] = {}
        listeners = []
        for target in endpoints:
            listener = target.socket(FAMILIES[family])
            listener.bind((target.address(family), 80))
            listener.listen()
            listeners.append(listener)
            for source in endpoints:
                if source is not target:
                    caller = source.socket(FAMILIES[family])
                    caller.setblocking(False)
                    caller.connect_ex((target.address(family), 80))
                    waiting[caller] = (source.name, target.name)
        made = {source.name: [] for source in endpoints}
        deadline_s = time.monotonic() + PATIENCE_S
        while waiting and (left_s := deadline_s - time.monotonic()) > 0:
            for caller in select.select([], list(waiting), [], left_s)[1]:
                source, target = waiting.pop(caller)
                if caller.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                    made[source].append(target)
            if sum(map(len, made.values())) >= expected:
                deadline_s = min(deadline_s, time.monotonic() + DENIAL_S)
        return {source: sorted(targets) for source, targets in made.items()}


def carry_out(_request: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """What `connections` finds, for every topology and family."""
    for text in REACHES:
        for family in FAMILIES:
            emit({"event": "reach", "topology": text, "reached": connections(text, family)})
    emit({"event": "end"})
