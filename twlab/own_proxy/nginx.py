"""Reads an nginx.conf with crossplane, and proposes changes to it."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import crossplane  # type: ignore[import-untyped]

from twlab.own_proxy.reading import (
    ANY_BY_IPV6,
    SOME_HOST,
    Change,
    Place,
    Reader,
    Reading,
    Route,
    asked_host,
    is_address,
    parse_origin,
    parse_place,
)

Block = list[dict[str, Any]]

_PREFIX = "/usr/share/nginx"  # of Debian's nginx: relative paths of logs and folders start here
_OUTPUTS = {
    *("access_log", "error_log", "pid", "lock_file"),
}
_FOLDERS = {
    *("client_body_temp_path", "proxy_temp_path", "fastcgi_temp_path", "uwsgi_temp_path", "scgi_temp_path"),
    "proxy_cache_path",
}
_CERTIFICATES = {
    *("ssl_certificate", "ssl_certificate_key", "ssl_dhparam", "ssl_trusted_certificate", "ssl_client_certificate"),
    *("proxy_ssl_certificate", "proxy_ssl_certificate_key", "proxy_ssl_trusted_certificate"),
}
_OTHER_PASSES = ("fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "memcached_pass")
_PROXY_PASS = re.compile(r"(https?)://([^/]+)(/.*)?")


def read(path: Path) -> Reading:
    """Read the configuration at `path` and what it includes."""
    reading = Reading("nginx", str(path))
    reading.outputs.update(("/var/log/nginx/error.log", "/var/log/nginx/access.log", "/run/nginx.pid"))
    reading.folders.update(f"/var/lib/nginx/{name}" for name in ("body", "proxy", "fastcgi", "uwsgi", "scgi"))
    parsed = _parsed(path)
    for config in parsed["config"]:
        for error in config["errors"]:
            _missing_include(reading, error["error"])
    whole = _parsed(path, combine=True)["config"][0]["parsed"]
    if _is_part(whole):
        whole = [_directive("http", block=whole)]
        reading.main = str(path.with_name(f"around-{path.name}"))
        reading.files[reading.main] = f'events {{}}\nhttp {{\n    include "{path}";\n}}\n'
        reading.lacks(
            "the nginx.conf around it", "the lab's includes it in http {}: name yours to have what else it says"
        )
    for directive in _every(whole):
        _note(reading, directive)
    if not reading.logs:
        reading.logs.append("/var/log/nginx/error.log")
    for block in _named(whole, "http"):
        reading.routes += _http(reading, block)
    for block in _named(whole, "stream"):
        reading.routes += _stream(reading, block)
    return reading


def _is_part(whole: Block) -> bool:
    """Return whether it is what an nginx.conf includes in its http block."""
    names = {directive["directive"] for directive in whole}
    return "server" in names and not names & {"events", "http", "stream", "mail"}


def _parsed(path: Path, combine: bool = False) -> dict[str, Any]:
    parsed: dict[str, Any] = crossplane.parse(str(path), combine=combine, check_ctx=False, check_args=False)
    return parsed


def _missing_include(reading: Reading, error: str) -> None:
    """Have an included file that is missing made: as Debian's nginx has it, or empty."""
    if not (found := re.search(r"No such file or directory: '([^']+)'", error)):
        return
    packaged = Path("/etc/nginx", Path(found[1]).name)
    text = packaged.read_text() if packaged.is_file() else ""
    reading.files[found[1]] = text
    way = f"the lab takes {packaged}" if text else "the lab has an empty one"
    reading.lacks(f"included file {found[1]}", way)


def _every(block: Block) -> Iterator[dict[str, Any]]:
    for directive in block:
        yield directive
        yield from _every(directive.get("block") or [])


def _named(block: Block, *names: str) -> Iterator[Block]:
    for directive in block:
        if directive["directive"] in names and "block" in directive:
            yield directive["block"]


def _note(reading: Reading, directive: dict[str, Any]) -> None:
    """Note the files and users that a directive names."""
    name, values = directive["directive"], directive["args"]
    first = values[0] if values else ""
    if "$" in first and name in _OUTPUTS | _FOLDERS | _CERTIFICATES:
        reading.lacks(f"{name} {first}", "its path has a variable in it; left alone")
    elif name in _OUTPUTS and first not in ("off", "stderr", "") and ":" not in first:
        reading.outputs.add(reading.path(first, _PREFIX))
        if name == "error_log":
            reading.logs.append(reading.path(first, _PREFIX))
    elif name in _FOLDERS:
        reading.folders.add(reading.path(first, _PREFIX))
    elif name in _CERTIFICATES and not first.startswith(("data:", "engine:")):
        reading.certificates.add(reading.path(first))
    elif name == "auth_basic_user_file":
        reading.files[reading.path(first)] = ""
    elif name == "user":
        reading.users.add(first)
        reading.groups.add(values[1] if len(values) > 1 else first)
    elif name == "load_module" and not Path("/usr/lib/nginx", first).exists():
        reading.lacks(f"module {first}", "install it, or take load_module and what uses it out of a copy")
    elif name in _OTHER_PASSES:
        reading.lacks(f"{name} {first}", "the lab's origins speak HTTP; such locations are not asked")
    elif "_by_lua" in name or name.startswith(("js_", "perl")):
        reading.lacks(f"{name}", "scripts run only where nginx has the module, and their files are there")


def _http(reading: Reading, block: Block) -> Iterator[Route]:
    upstreams = _upstreams(reading, block)
    for server in _named(block, "server"):
        listeners = list(_listeners(reading, server)) or [Place("", 80)]
        name = next((values[0] for values in _values(server, "server_name")), "")
        host = asked_host(name) if name not in ("", "_") else SOME_HOST
        for place, path, sources in _passes(reading, server, "/", ()):
            for listener in listeners:
                kind, target = place
                origins = upstreams.get(target) or _direct(reading, target, kind)
                if kind == "https":
                    origins = tuple(Place(origin.host, origin.port, True) for origin in origins)
                if origins:
                    told = f"server {name or '_'}, location {path}"
                    yield Route(told, listener, origins, host, path, sources)


def _values(block: Block, name: str) -> Iterator[list[str]]:
    for directive in block:
        if directive["directive"] == name and directive["args"]:
            yield directive["args"]


def _upstreams(reading: Reading, block: Block) -> dict[str, tuple[Place, ...]]:
    found = {}
    for directive in block:
        if directive["directive"] != "upstream":
            continue
        places = []
        for values in _values(directive["block"], "server"):
            if values[0].startswith("unix:"):
                reading.lacks(f"server {values[0]}", "a Unix socket takes no port; left alone")
            elif place := parse_origin(values[0], 80):
                reading.note_place(place)  # also of a server that is not used: nginx looks its name up
                if not {"down", "backup"} & set(values):
                    places.append(place)
        found[directive["args"][0]] = tuple(places)
    return found


def _listeners(reading: Reading, server: Block) -> Iterator[Place]:
    for values in _values(server, "listen"):
        if values[0].startswith("unix:") or "quic" in values:
            continue
        place = parse_place(values[0], 80, "ssl" in values or _ssl_on(server))
        if place is None:
            continue
        if values[0].startswith("[::]") and "ipv6only=off" not in values:
            place = replace(place, host=ANY_BY_IPV6)
        reading.note_listener(place)
        if "proxy_protocol" in values:
            reading.lacks(
                f"the PROXY protocol at listen {values[0]}",
                "the lab's clients do not speak it: take proxy_protocol out of a copy",
            )
        yield place


def _ssl_on(server: Block) -> bool:
    return ["on"] in list(_values(server, "ssl"))


def _passes(
    reading: Reading, block: Block, path: str, sources: tuple[str, ...]
) -> Iterator[tuple[tuple[str, str], str, tuple[str, ...]]]:
    """Yield ((scheme, target), path, sources) for every proxy_pass in a server block."""
    sources = _sources(reading, block) or sources
    for values in _values(block, "proxy_pass"):
        found = _PROXY_PASS.fullmatch(values[0])
        if found and "$" not in found[2] and not found[2].startswith("unix:"):
            yield (found[1], found[2]), path, sources
        else:
            reading.lacks(
                f"proxy_pass {values[0]}",
                "a target with a variable is resolved at each request, by a name server that the lab lacks"
                if "$" in values[0]
                else "it is no address and port, so it takes no port; left alone",
            )
    for directive in block:
        if directive["directive"] == "location":
            yield from _passes(reading, directive["block"], _example(directive["args"]), sources)
        elif directive["directive"] in ("if", "limit_except"):
            yield from _passes(reading, directive["block"], path, sources)


def _sources(reading: Reading, block: Block) -> tuple[str, ...]:
    """Return the addresses from which a block has nginx connect."""
    bound = list(_values(block, "proxy_bind"))
    for values in bound:
        if "transparent" in values:
            reading.lacks_client_source(f"proxy_bind {' '.join(values)}")
    found = tuple(values[0] for values in bound if is_address(values[0]))
    reading.addresses.update(found)
    return found


def _example(arguments: Sequence[str]) -> str:
    """Return a path that a location matches, as far as it is a simple one."""
    text = arguments[-1]
    if arguments[0] in ("~", "~*"):
        literal = re.match(r"\^?((?:/[\w.-]*)+)", text.replace("\\", ""))
        return literal[1] if literal else "/"
    return text if text.startswith("/") else "/"


def _direct(reading: Reading, target: str, scheme: str) -> tuple[Place, ...]:
    place = parse_origin(target, 443 if scheme == "https" else 80)
    if place is None:
        return ()
    reading.note_place(place)
    return (place,)


def _stream(reading: Reading, block: Block) -> Iterator[Route]:
    upstreams = _upstreams(reading, block)
    for server in _named(block, "server"):
        if any("udp" in values for values in _values(server, "listen")):
            continue
        sources = _sources(reading, server)
        for values in _values(server, "proxy_pass"):
            origins = upstreams.get(values[0]) or _direct(reading, values[0], "")
            for listener in _listeners(reading, server):
                if origins:
                    yield Route(f"stream server, proxy_pass {values[0]}", listener, origins, sources=sources)


def changes(
    reading: Reading, _text: str, route: Route, own_ports: tuple[int, int], sources: Sequence[str]
) -> list[Change]:
    """Propose changes to the configuration for the location of `route`.

    Only what stands in the file itself is changed, not what it includes.
    """
    main = _parsed(Path(reading.file))["config"][0]["parsed"]
    found = []
    for name, what, edit in (
        ("keepalive", "keepalive 32, proxy_http_version 1.1 and an empty Connection header", _keep),
        ("max_fails=0", "no server of the group is taken out when connect fails", _never_down),
        ("source addresses", f"{len(sources)} addresses by split_clients and proxy_bind", _split),
    ):
        edited = copy.deepcopy(main)
        for block in [edited] if reading.main else _named(edited, "http"):
            if edit(block, route, sources):
                text = crossplane.build(edited) + "\n"
                found.append(Change(name, what, text, before=crossplane.build(main) + "\n"))
                break
    return found


def _locations(block: Block, route: Route) -> Iterator[tuple[Block, dict[str, Any]]]:
    """Yield (block, directive) for the proxy_pass directives that lead to the route's origins."""
    for directive in block:
        if directive["directive"] == "proxy_pass":
            yield block, directive
        if directive["directive"] in ("server", "location", "if") and "block" in directive:
            yield from _locations(directive["block"], route)


def _keep(http: Block, route: Route, sources: Sequence[str]) -> bool:
    if any(True for values in _every(http) if values["directive"] == "keepalive"):
        return False
    done = False
    groups = {directive["args"][0]: directive["block"] for directive in http if directive["directive"] == "upstream"}
    for block, directive in list(_locations(http, route)):
        match = _PROXY_PASS.fullmatch(directive["args"][0])
        if match is None or "$" in match[2]:
            continue
        name = match[2]
        if name not in groups:
            place = parse_origin(name, 443 if match[1] == "https" else 80)
            if place is None:
                continue
            name = f"twlab_{len(groups)}"
            group = _directive("upstream", name, block=[_directive("server", f"{_bracketed(place.host)}:{place.port}")])
            groups[name] = group["block"]
            http.insert(0, group)
            directive["args"] = [f"{match[1]}://{name}{match[3] or ''}"]
        if not any(True for _ in _values(groups[name], "keepalive")):
            groups[name].append(_directive("keepalive", "32"))
        kept = [
            entry
            for entry in block
            if entry["directive"] != "proxy_http_version"
            and not (entry["directive"] == "proxy_set_header" and entry["args"][:1] == ["Connection"])
        ]
        block[:] = [*kept, _directive("proxy_http_version", "1.1"), _directive("proxy_set_header", "Connection", "")]
        done = True
    return done


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _never_down(http: Block, route: Route, sources: Sequence[str]) -> bool:
    done = False
    for directive in http:
        servers = [entry for entry in directive.get("block", ()) if entry["directive"] == "server"]
        if directive["directive"] == "upstream" and len(servers) > 1:
            for entry in servers:
                if not any(value.startswith("max_fails") for value in entry["args"]):
                    entry["args"].append("max_fails=0")
                    done = True
    return done


def _split(http: Block, route: Route, sources: Sequence[str]) -> bool:
    targets = list(_locations(http, route))
    if not targets or len(sources) < 2 or route.sources:
        return False
    shares = [_directive(f"{100 // len(sources)}%", source) for source in sources[:-1]]
    key = "$connection-$connection_requests"
    split = _directive("split_clients", key, "$twlab_source", block=[*shares, _directive("*", sources[-1])])
    for block, _ in targets:
        block.append(_directive("proxy_bind", "$twlab_source"))
    http.insert(0, split)
    return True


def _directive(name: str, *arguments: str, block: Block | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"directive": name, "line": 1, "args": list(arguments)}
    return made if block is None else {**made, "block": block}


def _run(text: str) -> tuple[str, ...]:
    """Return the arguments that keep it in the foreground, where the file does not say."""
    told = re.search(r"(?m)^\s*daemon\s", text)
    return ("-c", "{file}") if told else ("-c", "{file}", "-g", "daemon off;")


NGINX = Reader(
    name="nginx",
    recognizes=lambda name, text: (
        name.startswith("nginx")
        or bool(re.search(r"(?m)^\s*(events|http|stream|server|upstream\s+[\w.-]+)\s*\{", text))
    ),
    read=read,
    check=("-t", "-c", "{file}"),
    run=_run,
    changes=changes,
    complaint=r"\[crit\].* (?:connect|bind)\(.*failed \(\d+: [^)]*\)",
)
