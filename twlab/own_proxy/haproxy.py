"""Reads a haproxy.cfg."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from twlab.own_proxy.haproxy_changes import changes
from twlab.own_proxy.haproxy_sections import Section, expanded, is_on, place_at, sections
from twlab.own_proxy.reading import (
    ANY,
    ANY_BY_IPV6,
    SOME_HOST,
    Place,
    Reader,
    Reading,
    Route,
    asked_host,
    is_address,
)

_AUTHORITIES = ("ca-file", "ca-verify-file", "client-ca-file")
_ERROR_PAGE = "HTTP/1.0 503 Service Unavailable\r\nConnection: close\r\n\r\n"
# Checks that an origin passes only if it speaks that protocol.
_CHECKS = {f"{name}-check" for name in ("redis", "mysql", "pgsql", "ldap", "external", "spop")}
_CHECKS |= {"smtpchk", "ssl-hello-chk"}
_MOST_PORTS = 64  # of a range at which it listens


def read(path: Path) -> Reading:
    """Read the configuration at `path`; pass over what is not understood."""
    reading = Reading("haproxy", str(path))
    found = sections(expanded(path.read_text(errors="replace"), reading))
    _global(reading, found)
    bases = {line[0]: line[1] for section in found if section.kind == "global" for line in section.lines if line[1:]}
    backends = {section.name: section for section in found if section.kind in ("backend", "listen")}
    for section in found:
        for line in section.lines:
            _files(reading, line, bases)
            _names(reading, section, line)
        if section.kind == "resolvers":
            reading.lacks(
                f"resolvers {section.name}",
                "names come from the lab's hosts file when HAProxy starts (init-addr libc); if it takes servers down "
                "for want of a name server, take `resolvers` out of the server lines",
            )
        if section.kind in ("frontend", "listen"):
            reading.routes += _routes(reading, section, backends)
    for section in backends.values():
        _origins(reading, section, 0)  # HAProxy checks, and looks up, those of every section
    return reading


def _global(reading: Reading, found: Sequence[Section]) -> None:
    for section in found:
        if section.kind != "global":
            continue
        for words in section.lines:
            name, values = words[0], words[1:]
            if name == "user" and values:
                reading.users.add(values[0])
            elif name == "group" and values:
                reading.groups.add(values[0])
            elif name == "chroot" and values:
                reading.folders.add(values[0])
            elif name == "pidfile" and values:
                reading.outputs.add(values[0])
            elif name == "stats" and values[:1] == ["socket"] and len(values) > 1 and values[1].startswith("/"):
                reading.outputs.add(values[1])
                for key, names in (("user", reading.users), ("group", reading.groups)):
                    names.update(after for word, after in pairwise(values) if word == key)
            elif name == "ssl-dh-param-file" and values:
                reading.certificates.add(reading.path(values[0]))
            elif name.startswith("lua-load") and values:
                _lua(reading, values)


def _lua(reading: Reading, values: Sequence[str]) -> None:
    file = reading.path(values[0])
    if not Path(file).exists():
        reading.lacks(f"Lua script {file}", "put it there, or take lua-load and what uses it out of a copy")


def _files(reading: Reading, line: Sequence[str], bases: Mapping[str, str]) -> None:
    """Note the files that a line names."""
    for word, after in pairwise(line):
        if word in _AUTHORITIES and not after.startswith("@"):
            reading.authorities.add(reading.path(after, bases.get("ca-base", "")))
        elif word == "crl-file":
            reading.certificates.add(reading.path(after, bases.get("ca-base", "")))
        elif word == "crt" and not after.startswith("@"):
            file = reading.path(after.rstrip("/"), bases.get("crt-base", ""))
            if after.endswith("/"):
                reading.folders.add(file)
            reading.certificates.add(f"{file}/site.pem" if after.endswith("/") else file)
        elif word in ("sni", "verifyhost"):
            reading.certified.add(re.sub(r"^str\((.*)\)$", r"\1", after))
        elif word in ("-f", "crt-list") and not after.startswith(("virt@", "opt@")):
            reading.files[reading.path(after)] = ""
    if line[0] == "errorfile" and len(line) > 2:
        reading.files[reading.path(line[2])] = _ERROR_PAGE
    for word in line:
        if found := re.search(r"map(?:_\w+)?\(([^,)]+)", word):
            reading.files[reading.path(found[1])] = ""


def _names(reading: Reading, section: Section, line: Sequence[str]) -> None:
    """Note the names that HAProxy looks up beside those of servers: logs, peers and the like."""
    kinds = {"peers": ("peer", "server"), "ring": ("server",), "mailers": ("mailer",), "resolvers": ("nameserver",)}
    text = ""
    if line[0] == "log" and len(line) > 2:
        text = line[1].removeprefix("udp@")
    elif line[0] in kinds.get(section.kind, ()) and len(line) > 2:
        text = line[2]
    place = place_at(text, 514) if text not in ("stdout", "stderr") and "@" not in text else None
    if place and place.host:
        reading.note_name(place.host)


def _listeners(reading: Reading, section: Section) -> Iterator[Place]:
    for line in section.all("bind"):
        for text in line[0].split(",") if line else ():
            for one in _each_port(text):
                place = place_at(one, tls=is_on(line, "ssl"))
                if place is None:
                    continue
                if "v6only" in line and "::" in one:
                    place = replace(place, host=ANY_BY_IPV6)
                reading.note_listener(place)
                yield place
            if dict(pairwise(line)).get("verify") == "required":
                reading.lacks_certificate_of_clients(f"bind {text}", "verify required")
            if "accept-proxy" in line:
                reading.lacks(
                    f"the PROXY protocol at {section.kind} {section.name}",
                    "the lab's clients do not speak it: take accept-proxy out of a copy",
                )


def _each_port(text: str) -> list[str]:
    """Return an address for each port, where it names a range of them."""
    if not (found := re.fullmatch(r"(.*:)(\d+)-(\d+)", text)):
        return [text]
    return [f"{found[1]}{port}" for port in range(int(found[2]), int(found[3]) + 1)][:_MOST_PORTS]


def _routes(reading: Reading, section: Section, backends: Mapping[str, Section]) -> Iterator[Route]:
    listeners = list(_listeners(reading, section))
    asked = [(line[0], line[1:]) for line in section.inherited("default_backend") if line]
    asked += [(line[0], line[1:]) for line in section.all("use_backend") if line]
    for name, condition in asked:
        for listener in listeners:
            if name in backends:
                host, path = _wanted(section, condition)
                yield _route(reading, section, backends[name], listener, host, path)
    if section.kind == "listen":
        for listener in listeners:
            yield _route(reading, section, section, listener, SOME_HOST, "/")


def _wanted(section: Section, condition: Sequence[str]) -> tuple[str, str]:
    """Return the host and path that fulfil a condition, as far as it is a simple one."""
    host, path = SOME_HOST, "/"
    named = {line[0]: line[1:] for line in section.all("acl") if len(line) > 2}
    words: list[str] = []
    for word in condition:
        words += named.get(word, [word])
    for number, word in enumerate(words if condition[:1] != ["unless"] else ()):
        rest = re.sub(r"(?:^|\s)-[mf]\s+\S+", " ", " ".join(words[number + 1 :])).split()
        values = [value for value in rest if not value.startswith("-") and value not in ("{", "}")]
        if re.match(r"(req\.)?hdr(_\w+)?\(host", word) and values:
            host = asked_host(values[0] + ("example" if word.startswith("hdr_beg") else ""))
        elif word.startswith(("path", "url")) and values and values[0].startswith("/"):
            path = values[0]
    return host, path


def _route(reading: Reading, section: Section, backend: Section, listener: Place, host: str, path: str) -> Route:
    origins, sources = _origins(reading, backend, listener.port)
    if any(is_on(words, "check") for words in backend.servers()):
        _checks(reading, backend)
    name = section.name if section is backend else f"{section.name}, backend {backend.name}"
    mode = section.value("mode", "tcp")
    return Route(f"{section.kind} {name}", listener, origins, host, path, sources, mode=mode)


def _origins(reading: Reading, backend: Section, port: int) -> tuple[tuple[Place, ...], tuple[str, ...]]:
    """Return the servers of a section, and the addresses from which HAProxy connects to them.

    Args:
        port: of a server that is named without one, the listener's; 0: no route leads here.
    """
    found: list[Place] = []
    sources: dict[str, None] = {}
    shared = backend.value("source", "")
    for line in backend.inherited("source"):
        if "usesrc" in line:
            reading.lacks_client_source(f"source {' '.join(line)}")
    for words in backend.servers():
        told = f"server {words[0]} {words[1]}"
        named = dict(pairwise(words))
        place = place_at(words[1], port or 80, is_on(words, "ssl"))
        if place is None:
            if port:
                reading.lacks(told, "it is no address and port, so it takes no port; left alone")
            continue
        if not place.host:
            reading.lacks(told, "it is where the client asked: name its address in a copy")
            continue
        reading.note_name(place.host)  # also of a server that is not used: HAProxy looks its name up
        if "usesrc" in named:
            reading.lacks_client_source(f"server {words[0]} ... usesrc {named['usesrc']}")
        if is_on(words, "disabled") or is_on(words, "backup"):
            continue
        reading.note_place(place)
        found.append(place)
        if is_on(words, "check") and named.get("port", "").isdecimal():
            reading.note_place(Place(place.host, int(named["port"])))
        sources |= dict.fromkeys(_source(named.get("source", shared)))
        _speaks(reading, told, words, named)
    reading.addresses.update(sources)
    return tuple(found), tuple(sources)


def _source(text: str) -> list[str]:
    """Return the address that a source names, with its range of ports or without."""
    host = text if is_address(text) else re.sub(r":[\d-]*$", "", text).strip("[]")
    return [host] if is_address(host) and host not in ANY else []


def _speaks(reading: Reading, told: str, words: Sequence[str], named: Mapping[str, str]) -> None:
    """Note what a server's line has HAProxy speak, and the lab's origins do not."""
    if named.get("proto") == "h2" or named.get("alpn", "").startswith("h2"):
        reading.lacks(f"HTTP/2 to {told}", "the lab's origins speak HTTP/1.1: take it out of a copy")
    second = any(word.startswith("send-proxy-v2") for word in words)
    if second or ("send-proxy" in words and is_on(list(words), "ssl")):
        kind = "send-proxy-v2" if second else "send-proxy before TLS"
        reading.lacks(f"{kind} to {told}", "the lab's origins read send-proxy without TLS only: take it out of a copy")


def _is_met(expected: Sequence[str]) -> bool:
    """Return whether an answer of the lab's origins is as a check expects it."""
    for word, pattern in pairwise(expected):
        if word == "status":
            ranges = [part.partition("-") for part in pattern.split(",")]
            met = any(low <= "200" <= (high or low) for low, _, high in ranges)
        elif word == "string":
            met = pattern in "hello"
        elif word in ("rstatus", "rstring"):
            met = _matches(pattern, "200" if word == "rstatus" else "hello")
        else:
            continue
        return met != ("!" in expected)
    return False


def _matches(pattern: str, text: str) -> bool:
    try:
        return bool(re.search(pattern, text))
    except re.error:  # HAProxy's expressions are PCRE's: not all are Python's
        return False


def _checks(reading: Reading, backend: Section) -> None:
    """Note the checks that an origin of the lab does not pass."""
    lines = [f"option {line[0]}" for line in backend.every("option") if line and line[0] in _CHECKS]
    lines += ["tcp-check expect" for line in backend.every("tcp-check") if line[:1] == ["expect"]]
    expected = [line for line in backend.every("http-check", "expect") if not _is_met(line)]
    lines += [f"http-check expect {' '.join(line)}" for line in expected]
    for line in lines:
        reading.lacks(
            f"{line} at {backend.kind} {backend.name}",
            "the lab's origins answer every request by HTTP with 200 and `hello`, so HAProxy takes them for down: "
            "take it out of a copy",
        )


HAPROXY = Reader(
    name="haproxy",
    recognizes=lambda name, text: (
        name.startswith("haproxy") or bool(re.search(r"(?m)^(frontend|backend|listen|defaults)\b[^{;]*$", text))
    ),
    read=read,
    check=("-c", "-f", "{file}"),
    run=lambda text: ("-db", "-f", "{file}"),
    changes=changes,
    complaint=r"Connect\(\) failed for backend \S+: no free ports",
)
