"""Reads a squid.conf, and proposes changes to it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from twlab.own_proxy.reading import Change, Place, Reader, Reading, Route, is_address, parse_origin, parse_place

_PEER = re.compile(r"(?m)^[ \t]*cache_peer[ \t](?:[^#\n\\]|\\\n?)*")
FORWARD_NAME = "origin.example"
_HELPERS = ("auth_param", "external_acl_type", "url_rewrite_program", "store_id_program", "redirect_program")
_DATABASES = ("netdb_filename", "coredump_dir", "error_directory")


def read(path: Path) -> Reading:
    """Read the configuration at `path` and what it includes."""
    reading = Reading("squid", str(path), users={"proxy"}, groups={"proxy"})
    reading.outputs.update(("/var/log/squid/cache.log", "/var/log/squid/access.log", "/run/squid.pid"))
    reading.folders.add("/var/spool/squid")
    listeners: list[tuple[Place, list[str]]] = []
    origins: list[Place] = []
    sources: list[str] = []
    for words in _lines(reading, path):
        name, values = words[0], words[1:]
        if not values:
            continue
        _certificates(reading, values)
        if name in ("http_port", "https_port"):
            place = parse_place(values[0], tls=name == "https_port")
            if place and {"intercept", "tproxy"} & set(values):
                reading.lacks(f"{name} {' '.join(values)}", "redirected traffic is not made; another port is asked")
            elif place:
                listeners.append((place, values[1:]))
        elif name == "cache_peer" and len(values) > 2:
            place = parse_origin(f"{values[0]}:{values[2]}", tls="ssl" in values or "tls" in values)
            if place:
                reading.note_place(place)
                origins.append(place)
        elif name == "tcp_outgoing_address" and is_address(values[0]):
            sources.append(values[0])
        else:
            _note(reading, name, values)
    for place, _ in listeners:
        reading.note_listener(place)
    reading.addresses.update(sources)
    reading.logs = reading.logs or ["/var/log/squid/cache.log"]
    for place, options in listeners:
        accelerates = {"accel", "vhost"} & {option.partition("=")[0] for option in options}
        site = next((option.partition("=")[2] for option in options if option.startswith("defaultsite=")), FORWARD_NAME)
        own = parse_place(site, 80) or Place(FORWARD_NAME, 80)
        reading.routes.append(
            Route(
                f"http_port {place.port}" + (" accel" if accelerates else ""),
                place,
                tuple(origins) or (own,),
                site,
                sources=tuple(sources),
                absolute=not accelerates,
            )
        )
        reading.note_place(own)
    return reading


def _lines(reading: Reading, path: Path) -> Iterator[list[str]]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        reading.files[str(path)] = ""
        return
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "include":
            for pattern in words[1:]:
                base = Path(reading.path(pattern))
                for file in sorted(base.parent.glob(base.name)) or [Path(str(base).replace("*", "lab"))]:
                    yield from _lines(reading, file)  # Squid does not start without one
        else:
            yield words


def _note(reading: Reading, name: str, values: Sequence[str]) -> None:
    """Note the files, programs and users that a line names."""
    first = values[0]
    if name in ("cache_log", "access_log", "cache_store_log", "pid_filename"):
        file = first.partition(":")[2] if ":" in first else first  # a module, e.g. stdio:, comes first
        if file.startswith("/"):
            reading.outputs.add(file)
            if name == "cache_log":
                reading.logs.append(file)
    elif name == "cache_dir" and len(values) > 1 and first != "null":
        reading.folders.add(values[1])
        reading.lacks(
            f"cache_dir {values[1]}", "the lab's is empty, and is made with squid -z before the start, as on a machine"
        )
    elif name in _DATABASES and first.startswith("/") and name == "coredump_dir":
        reading.folders.add(first)
    elif name == "cache_effective_user":
        reading.users.add(first)
    elif name == "cache_effective_group":
        reading.groups.add(first)
    elif name in _HELPERS:
        programs = [value for value in values if value.startswith("/")]
        for program in programs[:1]:
            if not Path(program).exists():
                reading.lacks(f"{name} {program}", "the program is not installed: install it, or leave the line out")
    elif name == "dns_nameservers":
        reading.lacks(f"dns_nameservers {' '.join(values)}", "names come from the lab's hosts file")
    elif name == "acl":
        for value in values:
            if value.startswith('"'):
                reading.files[reading.path(value.strip('"'))] = ""


def _certificates(reading: Reading, values: Sequence[str]) -> None:
    """Note the certificates, keys and authorities that a line names."""
    for value in values:
        name, _, file = value.partition("=")
        name = re.sub("^(tls-|ssl)", "", name)
        if file and name in ("cert", "key", "dh", "dhparams"):
            reading.certificates.add(reading.path(file.rpartition(":")[2]))
        elif file and name == "cafile":
            reading.authorities.add(reading.path(file))
        elif file and name == "domain":
            reading.certified.add(file)


def _never_dead(line: re.Match[str]) -> str:
    """Return a cache_peer line, with those that continue it, by which it is never dead."""
    told = line[0].rstrip()
    return line[0] if "connect-fail-limit" in told else f"{told} connect-fail-limit=1000000{line[0][len(told) :]}"


def changes(
    reading: Reading, text: str, route: Route, own_ports: tuple[int, int], sources: Sequence[str]
) -> list[Change]:
    """Propose changes to `text`."""
    found = []
    kept = re.sub(r"(?m)^[ \t]*server_persistent_connections\s+off.*$", "server_persistent_connections on", text)
    if kept != text:
        found.append(Change("persistent", "server_persistent_connections on, as Squid comes", kept))
    patient = _PEER.sub(_never_dead, text)
    if patient != text:
        found.append(Change("connect-fail-limit", "a peer is not declared dead for want of ports", patient))
    if "server_pconn_for_nonretriable" not in text:
        what = "a POST takes an idle connection, too; the client gets an error where the origin closes it just then"
        risked = f"{kept.rstrip()}\nserver_pconn_for_nonretriable allow all\n"
        found.append(Change("persistent for POST", what, risked, method="POST"))
    if route.sources:
        freed = re.sub(r"(?m)^([ \t]*tcp_outgoing_address\b)", r"#\1", text)
        found.append(
            Change("no tcp_outgoing_address", "connect() chooses the port: Squid 5 binds it for all origins", freed)
        )
    elif len(sources) > 1:
        lines = ""
        for rest, source in zip(range(len(sources), 1, -1), sources, strict=False):
            lines += f"acl twlab_{rest} random 1/{rest}\ntcp_outgoing_address {source} twlab_{rest}\n"
        lines += f"tcp_outgoing_address {sources[-1]}\n"
        found.append(
            Change("source addresses", f"{len(sources)} addresses by tcp_outgoing_address", text + "\n" + lines)
        )
    return found


SQUID = Reader(
    name="squid",
    recognizes=lambda name, text: name.startswith("squid") or bool(re.search(r"(?m)^\s*https?_port\s+\S*\d", text)),
    read=read,
    check=("-k", "parse", "-f", "{file}"),
    run=lambda text: ("-N", "-f", "{file}"),
    changes=changes,
    complaint=r"commBind Cannot bind socket.*|(?:TCP c|C)onnection to \S+ failed",
)
