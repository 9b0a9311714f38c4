"""What the user asks of a run, and the request for its agent."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from twlab.errors import UsageError
from twlab.own_proxy import readers
from twlab.own_proxy.network import SOURCES, loopback
from twlab.own_proxy.reading import Change, Reader, Reading, Route, in_turn, is_address
from twlab.planner.demand import Demand, late_s
from twlab.ports import LINUX_PORTS, WIDEST_PORTS, PortChoice
from twlab.settings import Settings

AS_IT_IS = "as it is"
_HZ = 250
_LINUX_TIME_WAIT_S = 60.0
_NAMES_FROM = "198.18.0."  # RFC 2544: for tests of networks
_OWN_PORTS_FROM = 10_000
_FEW_PORTS = 600  # with more, the lab divides ports and rate
_MAKE_KEY = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650")
_MAKE_DH = ("genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048")


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to run.

    Attributes:
        path: of the configuration.
        program: its program; empty: by the file.
        rate_per_s: requests a second.
        duration_s: of each load; None: one and a half times TIME_WAIT.
        settings: of the proxy's kernel.
        scale: ports and rate are divided by it; None: so that there are some 600 ports.
        origins: host name to address, where the user gives it.
        listen: port of the listener to ask; 0: the first by which an origin answers.
        host, path_asked: of the request; empty: as the configuration suggests.
        after: another configuration, to be set beside the first.
        keep_alive: clients keep their connections to the proxy.
        client: address that they have; empty: the lab's.
        method: of the requests of a load, GET or POST.
        race, ceiling: whether the keep-alive race is run, and the ceiling searched.
        only: names of the changes that are run; empty: all.
        seed: for everything random.
        command: by which it was asked for.
    """

    path: Path
    program: str = ""
    rate_per_s: float = 500.0
    duration_s: float | None = None
    settings: Settings = field(default_factory=Settings)
    scale: int | None = None
    origins: Mapping[str, str] = field(default_factory=dict)
    listen: int = 0
    host: str = ""
    path_asked: str = ""
    after: Path | None = None
    keep_alive: bool = False
    client: str = ""
    method: str = "GET"
    race: bool = True
    ceiling: bool = True
    only: Sequence[str] = ()
    seed: int = 1
    command: str = ""

    @property
    def ports(self) -> tuple[int, int]:
        """First and last local port of the proxy."""
        return self.settings.port_low or LINUX_PORTS[0], self.settings.port_high or LINUX_PORTS[1]

    @property
    def count(self) -> int:
        """Number of local ports."""
        low, high = self.ports
        return high - low + 1

    @property
    def divided_by(self) -> int:
        """By what ports and rate are divided in the lab."""
        return self.scale or max(1, self.count // _FEW_PORTS)

    @property
    def hold_s(self) -> float:
        """Length of TIME_WAIT."""
        return self.settings.time_wait_s or _LINUX_TIME_WAIT_S


@dataclass
class Prepared:
    """A configuration that has been read, and what will be run.

    Attributes:
        arms: (change, settings in the lab, theory of its ceiling at full size by each route), the
            first unchanged.
    """

    reader: Reader
    text: str
    reading: Reading
    names: dict[str, str]
    arms: list[tuple[Change, Settings, list[float]]]


def prepare(order: Order) -> Prepared:
    """Read the configuration, and decide what will be run.

    Raises:
        UsageError: it cannot be read, or leads nowhere (see `readers`); no such change
            (``no-such-change``); an ``--origin`` that is no address (``bad-origin``).
    """
    path = order.path.resolve()
    if order.client and not is_address(order.client):
        raise UsageError(f"--client {order.client} is no address", "e.g. --client 192.168.1.20", "bad-origin")
    reader, text = readers.reader_for(path, order.program)
    reading = readers.read(path, reader)
    routes = [route for route in reading.routes if order.listen in (0, route.listener.port)]
    if not routes:
        there = ", ".join(sorted({str(route.listener.port) for route in reading.routes}))
        raise UsageError(
            f"no listener on port {order.listen} leads to an origin", f"those that do: {there}", "no-proxy-route"
        )
    reading.routes = in_turn(routes, order.host, order.path_asked)
    names = _addresses_of(reading, order.origins)
    changes = [Change(AS_IT_IS, "the configuration and settings as given"), *_changes(order, reader, reading, text)]
    if unknown := [name for name in order.only if name not in [change.name for change in changes]]:
        known = ", ".join(change.name for change in changes[1:])
        raise UsageError(
            f"there is no change called {unknown[0]!r} here", f"the changes are: {known}", "no-such-change"
        )
    arms = [
        (
            change,
            _in_lab(order, settings),
            [_theory(order, reader, route, change, settings) for route in reading.routes],
        )
        for change in changes
        if change.name == AS_IT_IS or not order.only or change.name in order.only
        for settings in [_changed(order.settings, change)]
    ]
    return Prepared(reader, text, reading, names, arms)


def _addresses_of(reading: Reading, given: Mapping[str, str]) -> dict[str, str]:
    for name, address in given.items():
        if not is_address(address):
            raise UsageError(
                f"--origin {name}={address}: {address!r} is no address", "e.g. --origin app=10.0.0.5", "bad-origin"
            )
    found = dict(given)
    free = (f"{_NAMES_FROM}{number}" for number in range(1, 255))
    missing = sorted(reading.names - set(found) - {"localhost"})
    found |= {name: next(free, "198.18.0.254") for name in missing}
    if missing:
        told = ", ".join(f"{name} {found[name]}" for name in missing)
        reading.lacks("name server", f"the lab's hosts file has: {told}; --origin NAME=ADDRESS gives another")
    for certificate in sorted(reading.certificates):
        if not Path(certificate).exists():
            reading.lacks(
                f"certificate or key {certificate}", "the lab has a certificate of its own there, self-signed"
            )
    for file, text in sorted(reading.files.items()):
        if not text and not Path(file).exists():
            reading.lacks(f"file {file}", "the lab has an empty one")
    return found | ({"localhost": "127.0.0.1"} if "localhost" in reading.names else {})


def _changes(order: Order, reader: Reader, reading: Reading, text: str) -> list[Change]:
    """Return the kernel's and the origin's changes, the program's, and the user's own."""
    found = [
        Change("origin closes first", "where it is asked to close: TIME_WAIT is at the origin", origin_closes=True)
    ]
    if order.settings.tw_reuse != 1:
        found.append(Change("tcp_tw_reuse=1", "sysctl net.ipv4.tcp_tw_reuse=1 at the proxy", settings=("tw_reuse=1",)))
    low, high = WIDEST_PORTS
    if order.count * 1.1 < high - low + 1:
        wide = (f"port_low={low}", f"port_high={high}")
        found.append(Change("wider range", f"sysctl net.ipv4.ip_local_port_range={low} {high}", settings=wide))
    own = _OWN_PORTS_FROM, _OWN_PORTS_FROM + max(order.count // order.divided_by, 2) - 1
    sources = [f"10.254.2.{number}" for number in range(1, SOURCES + 1)]
    proposed = reader.changes(reading, text, reading.routes[0], own, sources)
    found += [change for change in proposed if change.method in ("", order.method)]
    if order.after:
        other = order.after.read_text(errors="replace") if order.after.is_file() else None
        if other is None:
            raise UsageError(f"{order.after} cannot be read", "name the changed configuration", "no-configuration")
        found.append(Change(order.after.name, f"the configuration {order.after}", other))
    return found


def _changed(settings: Settings, change: Change) -> Settings:
    from twlab.overrides import Overrides

    return Overrides.parse(change.settings, []).settings.over(settings)


def _in_lab(order: Order, settings: Settings) -> Settings:
    """Return the settings as the lab has them: with the ports divided."""
    low, high = settings.port_low or LINUX_PORTS[0], settings.port_high or LINUX_PORTS[1]
    count = max(2, (high - low + 1) // order.divided_by)
    reuse = 2 if settings.tw_reuse is None else settings.tw_reuse
    return replace(settings, port_low=low, port_high=low + count - 1, tw_reuse=reuse)


def _theory(order: Order, reader: Reader, route: Route, change: Change, settings: Settings) -> float:
    """Return ports x destinations / TIME_WAIT, of a proxy that closes first."""
    first = reader.name == "squid" and bool(route.sources) and change.name != "no tcp_outgoing_address"
    low, high = settings.port_low or LINUX_PORTS[0], settings.port_high or LINUX_PORTS[1]
    demand = Demand(
        rate_per_s=order.rate_per_s,
        origins=max(1, len(set(route.origins))),
        sources=SOURCES if change.name == "source addresses" else max(1, len(set(route.sources))),
        port_low=low,
        port_high=high,
        choice=PortChoice.BIND if first else PortChoice.CONNECT,
        time_wait_s=order.hold_s,
        tw_reuse=2 if settings.tw_reuse is None else settings.tw_reuse,
        timestamps=settings.timestamps != 0,
        loopback=all(is_address(origin.host) and loopback(origin.host) for origin in route.origins),
        life_s=0,
    )
    return demand.four_tuples / demand.hold_s


def request(order: Order, prepared: Prepared, engine: str) -> dict[str, Any]:
    """Return the request for the agent."""
    reading = prepared.reading
    tls = bool(reading.certificates or reading.private) or any(
        origin.tls for route in reading.routes for origin in route.origins
    )
    scale = order.divided_by
    return {
        "seed": order.seed,
        "engine": engine,
        **reading.as_request(),
        "text": prepared.text,
        "check": list(prepared.reader.check),
        "run": list(prepared.reader.run(prepared.text)),
        "complaint": prepared.reader.complaint,
        "version": list(prepared.reader.version),
        "package": prepared.reader.package,
        "certificate": _certificate(reading) if tls else "",
        "names": prepared.names,
        "keep_alive": order.keep_alive,
        "client": order.client,
        "method": order.method,
        "rate_per_s": order.rate_per_s / scale,
        "duration_s": order.duration_s or 1.5 * order.hold_s,
        "hold_s": order.hold_s,
        "late_s": late_s(order.hold_s, _HZ),
        "arms": [
            {
                "name": change.name,
                "text": change.text,
                "settings": settings.as_dict(),
                "origin_closes": bool(change.origin_closes),
                "theory_per_s": [by_route / scale for by_route in theory],
                "ceiling": order.ceiling and not change.origin_closes,
                "race": order.race and (change.name == AS_IT_IS or change.text is not None),
            }
            for change, settings, theory in prepared.arms
        ],
    }


def _certificate(reading: Reading) -> str:
    """Make a key, a certificate and parameters for Diffie-Hellman, in one PEM text."""
    names = sorted({route.host for route in reading.routes} | reading.names)[:50]
    alternative = ",".join(f"DNS:{name}" for name in names) or "DNS:localhost"
    made = []
    try:
        for words in (
            (*_MAKE_KEY, "-keyout", "-", "-subj", "/CN=lab", "-addext", f"subjectAltName={alternative}"),
            _MAKE_DH,
        ):
            done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=True)
            made.append(done.stdout)
    except (OSError, subprocess.CalledProcessError):
        reading.lacks("a certificate", "none could be made: install openssl")
    return "".join(made)
