"""Reads a Caddyfile as Caddy itself adapts it to JSON, and proposes changes to it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from twlab.errors import CapabilityError, UsageError
from twlab.linux.programs import find_program
from twlab.own_proxy.reading import (
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

_PROXY = re.compile(r"(?m)^([ \t]*)(reverse_proxy\b(?:\{[^{}\s]+\}|[^{}\n#])*?)[ \t]*(\{)?[ \t]*(?:#.*)?$")
_VARIABLE = re.compile(r"\{\$(\w+)\}")  # one with a default, {$NAME:DEFAULT}, needs none
_IN_STORAGE = ".local/share/caddy/certificates/acme-v02.api.letsencrypt.org-directory"
_META = '{"sans": ["%s"], "issuer_data": {"url": "https://acme.invalid/1"}}\n'
_LIMIT_S = 20.0


def read(path: Path) -> Reading:
    """Read the configuration at `path`.

    Raises:
        CapabilityError: Caddy is not installed (``no-program``).
        UsageError: it does not accept the file (``proxy-rejects-configuration``).
    """
    reading = Reading("caddy", str(path))
    reading.note_variables(dict.fromkeys(_VARIABLE.findall(path.read_text(errors="replace"))))
    adapted = _adapted(path, reading)
    for values in every_mapping(adapted):
        _note(reading, values)
    http = adapted.get("apps", {}).get("http", {})
    for server in http.get("servers", {}).values():
        plain = http.get("http_port", 80)
        listeners = [place for text in server.get("listen", ()) if (place := _listener(text, server, plain))]
        for place in listeners:
            reading.note_listener(place)
        for host, path_asked, handler in _proxies(server.get("routes", ()), SOME_HOST, "/"):
            origins = tuple(_origins(reading, handler))
            if "rewrite" in handler and "handle_response" in handler:
                continue  # forward_auth: what it asks decides, and another answers
            for listener in listeners:
                if listener.tls and not is_address(host):
                    _certified(reading, host)
                if origins:
                    told = ", ".join(f"{origin.host}:{origin.port}" for origin in origins)
                    yielded = Route(f"reverse_proxy {told}", listener, origins, host, path_asked, _sources(handler))
                    reading.routes.append(yielded)
    reading.addresses.update(source for route in reading.routes for source in route.sources)
    return reading


def _adapted(path: Path, reading: Reading) -> dict[str, Any]:
    """Return the configuration as JSON, as Caddy reads it."""
    program = find_program("caddy")
    if program is None:
        raise CapabilityError("caddy, which reads a Caddyfile, is not installed", "apt-get install caddy", "no-program")
    done = subprocess.run(
        [program, "adapt", "--config", str(path), "--adapter", "caddyfile"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT_S,
        cwd=path.parent,
    )
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        unset = "; ".join(f"{absent.what}: {absent.way_round}" for absent in reading.absent)
        remedy = unset or "see that caddy accepts it on this machine"
        raise UsageError(f"caddy does not accept {path}:\n{said[0]}", remedy, "proxy-rejects-configuration")
    adapted: dict[str, Any] = json.loads(done.stdout)
    return adapted


def _note(reading: Reading, values: Mapping[str, Any]) -> None:
    """Note the files that a mapping names, and what the lab cannot provide."""
    if values.get("output") == "file" and "filename" in values:
        reading.outputs.add(values["filename"])
        reading.logs.append(values["filename"])
    for pair in values.get("load_files") or ():
        reading.certificates.update(reading.path(pair[name]) for name in ("certificate", "key") if name in pair)
    if values.get("module") == "file_system" and "root" in values:
        reading.folders.add(values["root"])
    if "dynamic_upstreams" in values:
        reading.lacks("dynamic upstreams", "they come from a name server, which the lab lacks; name them in a copy")


def _listener(text: str, server: Mapping[str, Any], plain: int) -> Place | None:
    if text.startswith(("unix/", "udp/")):
        return None
    place = parse_place(text.removeprefix("tcp/"))
    return place and replace(place, tls=_speaks_tls(place.port, server, plain))


def _speaks_tls(port: int, server: Mapping[str, Any], plain: int) -> bool:
    """Return whether a server has, or gets, certificates (automatic HTTPS).

    Args:
        plain: the port of HTTP.
    """
    if server.get("tls_connection_policies"):
        return True
    automatic = server.get("automatic_https", {})
    matches = [match for route in server.get("routes", ()) for match in route.get("match", ())]
    hosts = {host for match in matches for host in match.get("host", ())}
    return port != plain and not automatic.get("disable") and bool(hosts - set(automatic.get("skip", ())))


def _proxies(routes: Sequence[Mapping[str, Any]], host: str, path: str) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yield (host, path, handler) of every reverse_proxy in `routes`."""
    for route in routes:
        match: Mapping[str, Any] = next(iter(route.get("match") or [{}]))
        named = next(iter(match.get("host") or [host]))
        asked = next(iter(match.get("path") or [path]))
        inner_host = asked_host(named)
        inner_path = asked.rstrip("*") if asked.startswith("/") else path
        for handler in route.get("handle", ()):
            if handler.get("handler") == "reverse_proxy":
                yield inner_host, inner_path or "/", handler
            elif handler.get("handler") == "subroute":
                yield from _proxies(handler.get("routes", ()), inner_host, inner_path or "/")


def _origins(reading: Reading, handler: Mapping[str, Any]) -> Iterator[Place]:
    transport = handler.get("transport", {})
    tls = transport.get("tls")
    versions = transport.get("versions")
    if versions and "1.1" not in versions:
        reading.lacks("HTTP/2 to an upstream", "the lab's origins speak HTTP/1.1: take it out of a copy")
    if transport.get("proxy_protocol") == "v2":
        reading.lacks("the PROXY protocol's version 2 to an upstream", "the lab's origins do not speak it")
    if tls:
        reading.authorities.update(reading.path(file) for file in tls.get("root_ca_pem_files", ()))
        reading.certified.add(tls.get("server_name", ""))
    checked = handler.get("health_checks", {}).get("active", {}).get("port")
    for upstream in handler.get("upstreams", ()):
        place = parse_origin(str(upstream.get("dial", "")), tls=tls is not None)
        if place is None or "{" in place.host:
            reading.lacks(f"upstream {upstream.get('dial')}", "it is no address and port; left alone")
            continue
        reading.note_place(place)
        if checked:
            reading.note_place(replace(place, port=checked))
        yield place


def _sources(handler: Mapping[str, Any]) -> tuple[str, ...]:
    source = str(handler.get("transport", {}).get("local_address", ""))
    return (source,) if is_address(source) else ()


def _certified(reading: Reading, host: str) -> None:
    """Have a certificate in Caddy's storage, so that it asks for none."""
    if host == "localhost" or host.endswith((".localhost", ".internal", ".local")) or reading.certificates:
        return  # Caddy's own authority signs those; or the file names its certificates
    place = f"{_IN_STORAGE}/{host}/{host}"
    reading.private |= {f"{place}.crt": "", f"{place}.key": "", f"{place}.json": _META % host}
    reading.lacks(f"a certificate of {host} by ACME", "the lab has one of its own in Caddy's storage, self-signed")


def changes(
    reading: Reading, text: str, route: Route, own_ports: tuple[int, int], sources: Sequence[str]
) -> list[Change]:
    """Propose changes to `text`."""
    found = []
    kept = re.sub(r"(?m)^([ \t]*)keepalive[ \t]+off\b.*\n", "", text)
    if kept != text:
        found.append(Change("keepalive", "no `keepalive off`: connections to origins are kept, as Caddy comes", kept))
    blameless = re.sub(r"(?m)^[ \t]*(fail_duration|max_fails)\b.*\n", "", text)
    if blameless != text:
        found.append(Change("no fail_duration", "a failed connect takes no origin out", blameless))
    patient = _with_option(text, "lb_try_duration 5s")
    if "lb_try_duration" not in text and patient != text:
        found.append(Change("lb_try_duration", "connect is tried again for 5 s; the client waits", patient))
    return found


def _with_option(text: str, option: str) -> str:
    """Add an option to each reverse_proxy."""

    def added(found: re.Match[str]) -> str:
        indent, line, brace = found[1], found[2].rstrip(), found[3]
        first = f"{indent}{line} {{\n{indent}    {option}"
        return first if brace else f"{first}\n{indent}}}"

    return _PROXY.sub(added, text)


CADDY = Reader(
    name="caddy",
    recognizes=lambda name, text: (
        name.lower().startswith("caddyfile") or bool(re.search(r"(?m)^\s*reverse_proxy\s", text))
    ),
    read=read,
    check=("adapt", "--config", "{file}", "--adapter", "caddyfile"),
    run=lambda text: ("run", "--config", "{file}", "--adapter", "caddyfile"),
    changes=changes,
    complaint=r"connect: cannot assign requested address|bind: address already in use",
    version=("version",),
)
