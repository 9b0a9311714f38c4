"""Reads a haproxy.cfg, and proposes changes to it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from twlab.own_proxy.reading import ANY, Change, Place, Reader, Reading, Route, is_address, parse_place

_SECTIONS = {
    *("global", "defaults", "frontend", "backend", "listen", "resolvers", "peers", "userlist", "program"),
    *("cache", "mailers", "ring", "http-errors", "fcgi-app", "log-forward", "crt-store", "traces"),
}
_READ_BY_CRT = ("crt", "ca-file", "crl-file", "ca-verify-file", "client-ca-file")
_ERROR_PAGE = "HTTP/1.0 503 Service Unavailable\r\nConnection: close\r\n\r\n"


@dataclass
class _Section:
    kind: str
    name: str
    lines: list[list[str]] = field(default_factory=list)

    def all(self, *words: str) -> Iterator[list[str]]:
        """Yield what follows `words` in each line that begins with them."""
        for line in self.lines:
            if tuple(line[: len(words)]) == words:
                yield line[len(words) :]


def read(path: Path) -> Reading:
    """Read the configuration at `path`; pass over what is not understood."""
    reading = Reading("haproxy", str(path))
    text = path.read_text(errors="replace")
    reading.note_variables(dict.fromkeys(re.findall(r"\$\{(\w+)\}", text)))
    sections = _sections(re.sub(r"\$\{(\w+)\}", lambda found: reading.environment.get(found[1], ""), text))
    _global(reading, sections)
    mode = "tcp"
    backends = {section.name: section for section in sections if section.kind in ("backend", "listen")}
    for section in sections:
        for line in section.lines:
            _files(reading, line)
        if section.kind == "defaults":
            mode = next((line[0] for line in section.all("mode") if line), mode)
        if section.kind == "resolvers":
            reading.lacks(
                f"resolvers {section.name}",
                "names come from the lab's hosts file when HAProxy starts (init-addr libc); if it takes servers down "
                "for want of a name server, take `resolvers` out of the server lines",
            )
        if section.kind in ("frontend", "listen"):
            reading.routes += _routes(reading, section, backends, mode)
    return reading


def _sections(text: str) -> list[_Section]:
    found: list[_Section] = []
    for line in text.splitlines():
        words = _words(line)
        if words and words[0] in _SECTIONS:
            found.append(_Section(words[0], words[1] if len(words) > 1 else ""))
            words = words[2:] if words[0] == "listen" and len(words) > 2 else []  # listen NAME ADDRESS, of old
            if words:
                found[-1].lines.append(["bind", *words])
        elif words and found:
            found[-1].lines.append(words)
    return found


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError:
        return line.partition("#")[0].split()


def _global(reading: Reading, sections: Sequence[_Section]) -> None:
    for section in sections:
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


def _files(reading: Reading, line: Sequence[str]) -> None:
    """Note the files that a line names."""
    for word, after in pairwise(line):
        if word in _READ_BY_CRT and not after.startswith("@"):
            (reading.folders if after.endswith("/") else reading.certificates).add(_crt(reading, after))
            if after.endswith("/"):
                reading.certificates.add(_crt(reading, after) + "/site.pem")
        elif word in ("-f", "crt-list") and "/" in after:
            reading.files[reading.path(after)] = ""
    if line[0] == "errorfile" and len(line) > 2:
        reading.files[reading.path(line[2])] = _ERROR_PAGE
    for word in line:
        if found := re.search(r"map(?:_\w+)?\(([^,)]+)", word):
            reading.files[reading.path(found[1])] = ""


def _crt(reading: Reading, text: str) -> str:
    return reading.path(text.rstrip("/"))


def _routes(reading: Reading, section: _Section, backends: dict[str, _Section], mode: str) -> Iterator[Route]:
    mode = next((line[0] for line in section.all("mode") if line), mode)
    listeners = []
    for line in section.all("bind"):
        for text in line[0].split(",") if line else ():
            place = parse_place(re.sub(r"^(ipv4|ipv6|tcp4|tcp6|tcp)@", "", text), tls="ssl" in line)
            if text.startswith(("/", "unix@", "quic", "abns@", "fd@")) or place is None:
                continue
            listeners.append(place)
            if place.is_address:
                reading.addresses.add(place.host)
            if "accept-proxy" in line:
                reading.lacks(
                    f"the PROXY protocol at {section.kind} {section.name}",
                    "the lab's clients do not speak it: take accept-proxy out of a copy",
                )
    targets = [section] if any(section.all("server")) else []
    asked = [(line[0], line[1:]) for line in section.all("default_backend") if line]
    asked += [(line[0], line[1:]) for line in section.all("use_backend") if line]
    for name, condition in asked:
        if name in backends:
            targets.append(backends[name])
        for listener in listeners:
            if name in backends:
                host, path = _wanted(section, condition)
                yield _route(reading, section, backends[name], listener, host, path, mode)
    if targets and targets[0] is section:
        for listener in listeners:
            yield _route(reading, section, section, listener, "origin.example", "/", mode)


def _wanted(section: _Section, condition: Sequence[str]) -> tuple[str, str]:
    """Return the host and path that fulfil a condition, as far as it is a simple one."""
    host, path = "origin.example", "/"
    named = {line[0]: line[1:] for line in section.all("acl") if len(line) > 2}
    words: list[str] = []
    for word in condition:
        words += named.get(word, [word])
    for number, word in enumerate(words):
        values = [value for value in words[number + 1 :] if not value.startswith("-") and value not in ("{", "}")]
        if re.match(r"(req\.)?hdr(_\w+)?\(host", word) and values:
            host = values[0] + ("example" if word.startswith("hdr_beg") else "")
        elif word.startswith(("path", "url")) and values and values[0].startswith("/"):
            path = values[0]
    return host, path


def _route(
    reading: Reading, section: _Section, backend: _Section, listener: Place, host: str, path: str, mode: str
) -> Route:
    origins, checks, sources = [], [], []
    for line in backend.all("source"):
        sources += line[:1]
        if "usesrc" in line:
            reading.lacks_client_source(f"source {' '.join(line)}")
    for words in backend.all("server"):
        if len(words) < 2:
            continue
        text = re.sub(r"^(ipv4|ipv6|tcp4|tcp6|tcp)@", "", words[1])
        place = parse_place(text, listener.port, "ssl" in words)
        if place is None or text.startswith(("/", "unix@", "@", "fd@")):
            reading.lacks(f"server {words[0]} {words[1]}", "it is no address and port, so it takes no port; left alone")
            continue
        if not place.host:
            reading.lacks(f"server {words[0]} {words[1]}", "it is where the client asked: name its address in a copy")
            continue
        reading.note_place(place)  # also of a server that is not used: HAProxy looks its name up
        if "disabled" in words or "backup" in words:
            continue
        origins.append(place)
        named = dict(pairwise(words))
        if "check" in words and named.get("port", "").isdecimal():
            checks.append(Place(place.host, int(named["port"])))
        sources += [named["source"]] if "source" in named else []
        if "usesrc" in named:
            reading.lacks_client_source(f"server {words[0]} ... usesrc {named['usesrc']}")
    places = [place.host for source in sources if (place := parse_place(source, 1)) and place.host not in ANY]
    reading.addresses.update(filter(is_address, places))
    name = section.name if section is backend else f"{section.name}, backend {backend.name}"
    return Route(
        f"{section.kind} {name}", listener, tuple(origins), host, path, tuple(places), tuple(checks), mode=mode
    )


def changes(
    reading: Reading, text: str, route: Route, own_ports: tuple[int, int], sources: Sequence[str]
) -> list[Change]:
    """Propose changes to `text` for the backend of `route`."""
    backend = route.name.rpartition("backend ")[2] if ", backend " in route.name else route.name.split(maxsplit=1)[1]
    low, high = own_ports
    found = []
    edited = _edited(text, backend, f" source {sources[0]}:{low}-{high}")
    if edited != text and not re.search(r"source\s+\S+:\d+-\d+", text):
        found.append(
            Change("named ports", f"source {sources[0]}:{low}-{high} at each server: ports of HAProxy's own", edited)
        )
    shared = re.sub(
        rf"(?m)^(\s*(?:backend|listen)\s+{re.escape(backend)}\b.*)$", r"\1\n    http-reuse always", text, count=1
    )
    if route.mode == "tcp":
        spoken = re.sub(r"(?m)^(\s*mode\s+)tcp\b", r"\1http", text)
        if spoken != text:
            found.append(Change("mode http", "HAProxy knows requests, and ends with RST: for HTTP only", spoken))
    elif shared != text and not re.search(r"http-reuse\s+always", text):
        found.append(Change("http-reuse always", "clients share idle connections to the servers (mode http)", shared))
    return found


def _edited(text: str, backend: str, more: str) -> str:
    """Append `more` to the server lines of `backend` that have no source yet."""
    lines, inside = [], False
    for line in text.splitlines(keepends=True):
        words = _words(line)
        if words and words[0] in _SECTIONS:
            inside = words[0] in ("backend", "listen") and words[1:2] == [backend]
        if inside and words[:1] == ["server"] and "source" not in words:
            body, comment = re.fullmatch(r"([^#\n]*?)(\s*(?:#.*)?\n?)", line, re.DOTALL).groups()  # type: ignore[union-attr]
            line = body + more + comment
        lines.append(line)
    return "".join(lines)


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
