"""What a proxy's configuration asks of its surroundings."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

ANY = ("", "*", "0.0.0.0", "::", "[::]")
ANY_BY_IPV6 = "::"  # the host of a listener that takes no IPv4
SOME_HOST = "origin.example"  # asked for where the configuration names no host


@dataclass(frozen=True)
class Place:
    """An address and port, as the configuration names it.

    Attributes:
        host: an IP address, a name, or empty for all addresses; `ANY_BY_IPV6`: for all of IPv6.
        port: of TCP.
        tls: whether TLS is spoken there.
    """

    host: str
    port: int
    tls: bool = False

    @property
    def is_address(self) -> bool:
        """Whether `host` is an IP address."""
        return is_address(self.host)


@dataclass(frozen=True)
class Route:
    """A way from a listener through the proxy to its origins.

    Attributes:
        name: in the configuration's words, e.g. ``frontend www, backend app``.
        listener: where the clients' requests arrive.
        origins: where they are sent on to; empty: wherever the request says.
        host: the name that clients ask for.
        path: of the request.
        sources: addresses that the proxy connects from; empty: the kernel's choice.
        absolute: the request names the whole URL, as to a forward proxy.
        mode: ``http``, or ``tcp`` where bytes are passed on.
    """

    name: str
    listener: Place
    origins: tuple[Place, ...]
    host: str = SOME_HOST
    path: str = "/"
    sources: tuple[str, ...] = ()
    absolute: bool = False
    mode: str = "http"


@dataclass(frozen=True)
class Absent:
    """Something that the lab cannot provide as it is.

    Attributes:
        what: by name, e.g. ``certificate /etc/ssl/site.pem``.
        way_round: what the lab does instead, or what the user can do.
    """

    what: str
    way_round: str


@dataclass(frozen=True)
class Change:
    """A change to the configuration, the kernel's settings, or the origins.

    Attributes:
        name: short, as the table shows it.
        what: in words.
        text: the changed configuration; None: unchanged.
        settings: KEY=VALUE texts for the proxy's kernel, over the user's own.
        origin_closes: the origins close first where they are asked to close.
        before: what `text` is to be compared with, where it is laid out anew; None: the file.
        method: of the requests for which it is proposed; empty: for all.
        other: what was read of `text`, where it is another file's; None: it takes the file's place.
    """

    name: str
    what: str
    text: str | None = None
    settings: tuple[str, ...] = ()
    origin_closes: bool | None = None
    before: str | None = None
    method: str = ""
    other: Reading | None = None


@dataclass
class Reading:
    """What was read of a configuration.

    Attributes:
        program: its name, and Debian's package.
        file: absolute path of the configuration.
        main: of what the program starts with, where `file` is a part of it; empty: `file`.
        routes: in the order in which they are tried.
        places: where the proxy connects to by any way, also for the origins' health.
        listeners: where the proxy listens, whether a route begins there or not.
        addresses: of the proxy: listeners and sources.
        certificates, authorities, files, folders, outputs: absolute paths that the program wants to
            read as certificates with their keys, as certificates that it trusts, as files, to have
            as folders, and to write.
        certified: names that it wants in an origin's certificate, beside those in `names`.
        users, groups: names that it looks up.
        names: host names that it looks up.
        absent: what the lab cannot provide as it is.
        logs: files in which it complains.
        environment: variables that it reads, with their values here.
        private: files of the folder that is its home, by relative path; an empty text: the lab's
            certificate and key.
    """

    program: str
    file: str
    main: str = ""
    routes: list[Route] = field(default_factory=list)
    places: dict[Place, None] = field(default_factory=dict)
    listeners: set[Place] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    certificates: set[str] = field(default_factory=set)
    authorities: set[str] = field(default_factory=set)
    certified: set[str] = field(default_factory=set)
    files: dict[str, str] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    outputs: set[str] = field(default_factory=set)
    users: set[str] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    absent: list[Absent] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    private: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)

    def lacks(self, what: str, way_round: str) -> None:
        """Note what the lab cannot provide as it is; the same only once."""
        if all(absent.what != what for absent in self.absent):
            self.absent.append(Absent(what, way_round))

    def note_variables(self, names: Iterable[str]) -> None:
        """Hand on variables of this process's environment, and tell of those it lacks."""
        for name in names:
            if name in os.environ:
                self.environment[name] = os.environ[name]
            else:
                self.lacks(f"the variable {name}", f"it is not set here, and is empty: {name}=VALUE twlab proxy ...")

    def note_place(self, place: Place) -> None:
        """Note an origin, and its name if it has one."""
        self.places[place] = None
        self.note_name(place.host)

    def note_name(self, host: str) -> None:
        """Note a name that the program looks up, if `host` is one."""
        if host and not is_address(host):
            self.names.add(host)

    def note_listener(self, place: Place) -> None:
        """Note a listener, with its address or its name."""
        self.listeners.add(place)
        self.note_name(place.host)
        if place.is_address and place.host != ANY_BY_IPV6:
            self.addresses.add(place.host)

    def lacks_client_source(self, line: str) -> None:
        """Note that `line` has the proxy connect with its client's address."""
        self.lacks(line, "answers find back by rules of the machine, which the lab lacks: take it out of a copy")

    def lacks_certificate_of_clients(self, place: str, words: str) -> None:
        """Note that a listener asks for a certificate, by `words` of the configuration."""
        self.lacks(f"a client's certificate at {place}", f"the lab's clients have none: take {words} out of a copy")

    def path(self, text: str, base: str = "") -> str:
        """Return `text` as an absolute path.

        A relative one starts at `base`, or at the file's folder.
        """
        return str(Path(base or Path(self.file).parent, text))

    def merge(self, other: Reading) -> None:
        """Have the lab provide what `other` asks for, too; the routes stay this one's."""
        for mine, its in (
            (self.addresses, other.addresses),
            (self.certificates, other.certificates),
            (self.authorities, other.authorities),
            (self.certified, other.certified),
            (self.folders, other.folders),
            (self.outputs, other.outputs),
            (self.users, other.users),
            (self.groups, other.groups),
            (self.names, other.names),
        ):
            mine |= its
        self.listeners |= other.listeners
        self.places |= other.places
        self.files = other.files | self.files
        self.private = other.private | self.private
        self.environment = other.environment | self.environment
        self.logs += [log for log in other.logs if log not in self.logs]
        for absent in other.absent:
            self.lacks(absent.what, absent.way_round)

    def as_request(self) -> dict[str, Any]:
        """Return JSON values for the agent.

        What is written to a device, such as /dev/stdout, is among the program's own output.
        """
        return {
            "program": self.program,
            "file": self.file,
            "routes": [asdict(route) for route in self.routes],
            "addresses": sorted(self.addresses),
            "certificates": sorted(self.certificates),
            "authorities": sorted(self.authorities),
            "files": dict(self.files),
            "folders": sorted(self.folders),
            "outputs": sorted(_but_devices(self.outputs)),
            "users": sorted(self.users),
            "groups": sorted(self.groups),
            "names": sorted(self.names),
            "logs": _but_devices(self.logs),
            "private": dict(self.private),
            "environment": dict(self.environment),
        }


@dataclass(frozen=True)
class Reader:
    """A program whose configurations are read.

    Attributes:
        name: of the program, and of Debian's package.
        recognizes: whether a file, by name and text, is its configuration.
        read: path to what the configuration asks.
        check: arguments that have the program check ``{file}``.
        run: arguments that run it in the foreground; given the text.
        changes: reading, text, route, first and last of a range of ports of the proxy's own, and
            its addresses towards origins, to proposed changes.
        complaint: pattern of a log line that tells of the missing port.
        version: arguments that have it print its version.
        package: what brings it; empty: Debian's package of its name.
    """

    name: str
    recognizes: Callable[[str, str], bool]
    read: Callable[[Path], Reading]
    check: tuple[str, ...]
    run: Callable[[str], tuple[str, ...]]
    changes: Callable[[Reading, str, Route, tuple[int, int], Sequence[str]], list[Change]]
    complaint: str
    version: tuple[str, ...] = ("-v",)
    package: str = ""


def place_of(values: Mapping[str, Any]) -> Place:
    """Read what `asdict` made of a place."""
    return Place(**values)


def route_of(values: Mapping[str, Any]) -> Route:
    """Read what `asdict` made of a route."""
    return Route(
        **{
            **values,
            "listener": place_of(values["listener"]),
            "origins": tuple(place_of(origin) for origin in values["origins"]),
            "sources": tuple(values["sources"]),
        }
    )


def _but_devices(paths: Iterable[str]) -> list[str]:
    return [path for path in paths if not path.startswith("/dev/")]


def is_address(text: str) -> bool:
    """Return whether `text` is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def parse_place(text: str, port: int = 0, tls: bool = False) -> Place | None:
    """Read an address and port, as ``[IPV6]:PORT``, ``:PORT`` or ``PORT``.

    An address alone has `port`. None if there is no port in it and none is given, or it is no such
    thing.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        host, given = "", text
    elif text.startswith("["):
        host, _, rest = text[1:].partition("]")
        given = rest.removeprefix(":")
    elif text.count(":") > 1:
        host, _, given = text.rpartition(":") if not is_address(text) else (text, "", "")
    else:
        host, _, given = text.partition(":")
    if given and not (given.isascii() and given.isdigit()):
        return None
    number = int(given or port)
    return Place("" if host in ANY else host, number, tls) if 0 < number < 65536 else None


def in_turn(routes: Iterable[Route], host: str, path: str) -> list[Route]:
    """Return the routes, asked for another host or path where the user names one."""
    return [replace(route, host=host or route.host, path=path or route.path) for route in routes]


def every_mapping(value: Any) -> Iterator[dict[str, Any]]:
    """Yield each mapping in `value`, parsed JSON or YAML, however deep."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from every_mapping(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from every_mapping(inner)


def parse_origin(text: str, port: int = 0, tls: bool = False) -> Place | None:
    """Read where a proxy connects to, as `parse_place` does.

    An address that stands for all is this machine: connect() goes to its loopback (Linux,
    net/ipv4/route.c, ip_route_output_key_hash_rcu), and so does a dialler of Go's.
    """
    place = parse_place(text, port, tls)
    if place is None or place.host:
        return place
    return Place("::1" if "::" in text else "127.0.0.1", place.port, tls)


def asked_host(pattern: str) -> str:
    """Return a host that a pattern matches: ``any.example.com`` for ``*.example.com``."""
    host = re.sub(r"^\*?\.", "any.", pattern)
    host = re.sub(r"\.\*$", ".example", host)
    return host if is_host(host) else SOME_HOST


def is_host(text: str) -> bool:
    """Return whether `text` can be asked for as a host, with a port or without."""
    name = re.sub(r":\d+$", "", text)
    return len(name) < 254 and all(re.fullmatch(r"[A-Za-z0-9_-]{1,63}", label) for label in name.split("."))
