"""Reads an nginx.conf with crossplane, and proposes changes to it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import crossplane  # type: ignore[import-untyped]

from twlab.own_proxy.nginx_blocks import PROXY_PASS, Block, directive_of, every, named, values_of
from twlab.own_proxy.nginx_changes import changes
from twlab.own_proxy.reading import (
    ANY_BY_IPV6,
    SOME_HOST,
    Place,
    Reader,
    Reading,
    Route,
    asked_host,
    is_address,
    parse_origin,
    parse_place,
)

_PREFIX = "/usr/share/nginx"  # of Debian's nginx: relative paths of logs and folders start here
_OUTPUTS = {
    *("access_log", "error_log", "pid", "lock_file"),
}
_FOLDERS = {
    *("client_body_temp_path", "proxy_temp_path", "fastcgi_temp_path", "uwsgi_temp_path", "scgi_temp_path"),
    "proxy_cache_path",
}
_CERTIFICATES = {
    *("ssl_certificate", "ssl_certificate_key", "ssl_dhparam"),
    *("proxy_ssl_certificate", "proxy_ssl_certificate_key"),
}
_AUTHORITIES = ("ssl_trusted_certificate", "ssl_client_certificate", "proxy_ssl_trusted_certificate")
_OTHER_PASSES = ("fastcgi_pass", "uwsgi_pass", "scgi_pass", "grpc_pass", "memcached_pass")
_LOOKED_UP = re.compile(r"(?:\w+://)?(\[[^]]*\]|[\w.-]+)")


def read(path: Path) -> Reading:
    """Read the configuration at `path` and what it includes."""
    reading = Reading("nginx", str(path))
    reading.outputs.update(("/var/log/nginx/error.log", "/var/log/nginx/access.log", "/run/nginx.pid"))
    reading.folders.update(f"/var/lib/nginx/{name}" for name in ("body", "proxy", "fastcgi", "uwsgi", "scgi"))
    parsed = _parsed(path)
    for config in parsed["config"]:
        for error in config["errors"]:
            _tell_error(reading, error["error"])
    whole = _parsed(path, combine=True)["config"][0]["parsed"]
    if _is_part(whole):
        whole = [directive_of("http", block=whole)]
        reading.main = str(path.with_name(f"around-{path.name}"))
        reading.files[reading.main] = f'events {{}}\nhttp {{\n    include "{path}";\n}}\n'
        reading.lacks(
            "the nginx.conf around it", "the lab's includes it in http {}: name yours to have what else it says"
        )
    groups = {args[0] for one in every(whole) if one["directive"] == "upstream" and (args := one["args"])}
    for directive in every(whole):
        _note(reading, directive, groups)
    if not reading.logs:
        reading.logs.append("/var/log/nginx/error.log")
    for block in named(whole, "http"):
        reading.routes += _http(reading, block)
    for block in named(whole, "stream"):
        reading.routes += _stream(reading, block)
    return reading


def _is_part(whole: Block) -> bool:
    """Return whether it is what an nginx.conf includes in its http block."""
    names = {directive["directive"] for directive in whole}
    return "server" in names and not names & {"events", "http", "stream", "mail"}


def _parsed(path: Path, combine: bool = False) -> dict[str, Any]:
    parsed: dict[str, Any] = crossplane.parse(str(path), combine=combine, check_ctx=False, check_args=False)
    return parsed


def _tell_error(reading: Reading, error: str) -> None:
    """Have an included file that is missing made: as Debian's nginx has it, or empty."""
    if not (found := re.search(r"No such file or directory: '([^']+)'", error)):
        reading.lacks(error, "nginx -t says more; put it right")
        return
    packaged = Path("/etc/nginx", Path(found[1]).name)
    text = packaged.read_text() if packaged.is_file() else ""
    reading.files[found[1]] = text
    way = f"the lab takes {packaged}" if text else "the lab has an empty one"
    reading.lacks(f"included file {found[1]}", way)


def _note(reading: Reading, directive: dict[str, Any], groups: Collection[str]) -> None:
    """Note the files and users that a directive names."""
    name, values = directive["directive"], directive["args"]
    first = values[0] if values else ""
    if "$" in first and name in _OUTPUTS | _FOLDERS | _CERTIFICATES:
        reading.lacks(f"{name} {first}", "its path has a variable in it; left alone")
    elif name in _OUTPUTS and first.startswith("syslog:"):
        server = re.search(r"server=(?!unix:)([^,]+)", first)
        place = parse_place(server[1], 514) if server else None
        reading.note_name(place.host if place else "")
    elif name in _OUTPUTS and first not in ("off", "stderr", "") and ":" not in first:
        reading.outputs.add(reading.path(first, _PREFIX))
        if name == "error_log":
            reading.logs.append(reading.path(first, _PREFIX))
    elif name in _FOLDERS:
        reading.folders.add(reading.path(first, _PREFIX))
    elif name in _CERTIFICATES and not first.startswith(("data:", "engine:")):
        reading.certificates.add(reading.path(first))
    elif name in _AUTHORITIES:
        reading.authorities.add(reading.path(first))
    elif name == "ssl_verify_client" and first == "on":
        reading.lacks_certificate_of_clients(name, name)
    elif name == "proxy_ssl_name":
        reading.certified.add(first)
    elif name == "auth_basic_user_file":
        reading.files[reading.path(first)] = ""
    elif name == "user":
        reading.users.add(first)
        reading.groups.add(values[1] if len(values) > 1 else first)
    elif name == "load_module" and not Path("/usr/lib/nginx", first).exists():
        reading.lacks(f"module {first}", "install it, or take load_module and what uses it out of a copy")
    elif name in _OTHER_PASSES:
        reading.lacks(f"{name} {first}", "the lab's origins speak HTTP; such locations are not asked")
        target = _LOOKED_UP.match(first)
        if target and "$" not in first and not first.startswith("unix:") and target[1] not in groups:
            reading.note_name(target[1].strip("[]"))  # nginx looks it up as it starts
    elif "_by_lua" in name or name.startswith(("js_", "perl")):
        reading.lacks(f"{name}", "scripts run only where nginx has the module, and their files are there")


def _http(reading: Reading, block: Block) -> Iterator[Route]:
    upstreams = _upstreams(reading, block)
    ways = _Ways(reading, upstreams, _chosen(block))
    outer = ways.sources(block)
    for server in named(block, "server"):
        listeners = list(_listeners(reading, server))
        if not listeners:
            listeners = [Place("", 80)]
            reading.note_listener(listeners[0])
        name = next((values[0] for values in values_of(server, "server_name")), "")
        host = asked_host(name) if name not in ("", "_") else SOME_HOST
        for origins, path, sources in ways.passes(server, "/", outer):
            for listener in listeners:
                yield Route(f"server {name or '_'}, location {path}", listener, origins, host, path, sources)


def _chosen(block: Block) -> dict[str, list[str]]:
    """Return the values that variables of split_clients, map and geo may have."""
    found: dict[str, list[str]] = {}
    for directive in block:
        if directive["directive"] in ("split_clients", "map", "geo") and directive["args"]:
            values = [value for inner in directive.get("block") or () for value in inner["args"][-1:]]
            found[directive["args"][-1]] = values
    return found


def _upstreams(reading: Reading, block: Block) -> dict[str, tuple[Place, ...]]:
    found = {}
    for directive in block:
        if directive["directive"] != "upstream":
            continue
        places = []
        for values in values_of(directive.get("block") or [], "server"):
            if values[0].startswith("unix:"):
                reading.lacks(f"server {values[0]}", "a Unix socket takes no port; left alone")
            elif place := parse_origin(values[0], 80):
                reading.note_name(place.host)  # also of a server that is not used: nginx looks its name up
                if not {"down", "backup"} & set(values):
                    places.append(place)
        found[" ".join(directive["args"])] = tuple(places)
    return found


def _listeners(reading: Reading, server: Block) -> Iterator[Place]:
    for values in values_of(server, "listen"):
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
    return ["on"] in list(values_of(server, "ssl"))


@dataclass(frozen=True)
class _Ways:
    """Finds the ways from a server block to origins.

    Attributes:
        reading: to note places in.
        upstreams: name to servers.
        chosen: variable to the values that it may have.
    """

    reading: Reading
    upstreams: Mapping[str, tuple[Place, ...]]
    chosen: Mapping[str, Sequence[str]]

    def passes(
        self, block: Block, path: str, sources: tuple[str, ...]
    ) -> Iterator[tuple[tuple[Place, ...], str, tuple[str, ...]]]:
        """Yield (origins, path, sources) for every proxy_pass in `block`."""
        sources = self.sources(block) if any(values_of(block, "proxy_bind")) else sources
        for values in values_of(block, "proxy_pass"):
            if origins := self._origins(values[0]):
                yield origins, path, sources
        for directive in block:
            inner = directive.get("block") or []
            if directive["directive"] == "location":
                yield from self.passes(inner, _example(directive["args"]), sources)
            elif directive["directive"] in ("if", "limit_except"):
                yield from self.passes(inner, path, sources)

    def sources(self, block: Block) -> tuple[str, ...]:
        """Return the addresses from which a block has nginx connect."""
        found: list[str] = []
        for values in values_of(block, "proxy_bind"):
            if "transparent" in values:
                self.reading.lacks_client_source(f"proxy_bind {' '.join(values)}")
            found += filter(is_address, self.chosen.get(values[0], values[:1]))
        self.reading.addresses.update(found)
        return tuple(found)

    def _origins(self, target: str) -> tuple[Place, ...]:
        found = PROXY_PASS.fullmatch(target)
        if found is None or found[2].startswith("unix:"):
            return self._none(target)
        scheme, name, rest = found[1], found[2], found[3] or ""
        origins = self.upstreams.get(name) or self._direct(name, scheme, looked_up_later="$" in name + rest)
        if not origins:
            return self._none(target)
        origins = tuple(replace(origin, tls=scheme == "https") for origin in origins)
        self.reading.certified.add(name.partition(":")[0])  # nginx looks for it, also where it is a group's
        for origin in origins:
            self.reading.note_place(origin)
        return origins

    def _direct(self, target: str, scheme: str, looked_up_later: bool) -> tuple[Place, ...]:
        """Return the one place that a target names.

        Args:
            looked_up_later: at each request, by a name server: there is a variable in it.
        """
        place = parse_origin(target, 443 if scheme == "https" else 80)
        if place is None or "$" in target or (looked_up_later and not place.is_address):
            return ()
        return (place,)

    def _none(self, target: str) -> tuple[Place, ...]:
        self.reading.lacks(
            f"proxy_pass {target}",
            "a target with a variable is resolved at each request, by a name server that the lab lacks"
            if "$" in target
            else "it is no address and port, so it takes no port; left alone",
        )
        return ()

    def streams(
        self, server: Block, outer: tuple[str, ...]
    ) -> Iterator[tuple[str, tuple[Place, ...], tuple[str, ...]]]:
        """Yield (target, origins, sources) for a server that passes bytes on."""
        for values in values_of(server, "proxy_pass"):
            target = values[0]
            origins = self.upstreams.get(target) or self._direct(target, "", looked_up_later=False)
            tls = ["on"] in list(values_of(server, "proxy_ssl"))
            for origin in (origins := tuple(replace(origin, tls=tls) for origin in origins)):
                self.reading.note_place(origin)
            if origins:
                yield target, origins, self.sources(server) or outer
            else:
                self._none(target)


def _example(arguments: Sequence[str]) -> str:
    """Return a path that a location matches, as far as it is a simple one."""
    text = arguments[-1]
    if arguments[0] in ("~", "~*"):
        literal = re.match(r"\^?((?:/[\w.-]*)+)", text.replace("\\", ""))
        return literal[1] if literal else "/"
    return text if text.startswith("/") else "/"


def _stream(reading: Reading, block: Block) -> Iterator[Route]:
    ways = _Ways(reading, _upstreams(reading, block), _chosen(block))
    outer = ways.sources(block)
    for server in named(block, "server"):
        if any("udp" in values for values in values_of(server, "listen")):
            continue
        for target, origins, sources in ways.streams(server, outer):
            for listener in _listeners(reading, server):
                yield Route(f"stream server, proxy_pass {target}", listener, origins, sources=sources)


def _run(text: str) -> tuple[str, ...]:
    """Return the arguments that keep it in the foreground, where the file does not say."""
    told = re.search(r"(?m)^(?:[^#\n]*[;}])?[ \t]*daemon\s", text)
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
