"""What the user asks of a run, and what will be run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from twlab.errors import UsageError
from twlab.own_proxy import readers
from twlab.own_proxy.network import SOURCES, family_of, loopback, sources_of
from twlab.own_proxy.reading import Change, Reader, Reading, Route, in_turn, is_address, is_host
from twlab.planner.demand import Demand
from twlab.ports import LINUX_PORTS, WIDEST_PORTS, PortChoice
from twlab.settings import Settings

AS_IT_IS = "as it is"
_LINUX_TIME_WAIT_S = 60.0
_NAMES_FROM = "198.18.0."  # RFC 2544: for tests of networks
_OWN_PORTS_FROM = 10_000
_FEW_PORTS = 600  # with more, the lab divides ports and rate


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


@dataclass(frozen=True)
class Arm:
    """A change that will be run.

    Attributes:
        change: of the configuration, the settings or the origins.
        settings: of the proxy's kernel in the lab.
        routes: by each route of the configuration, the one that the changed configuration has for
            the same requests.
        theory: of the ceiling, at full size, by each route.
    """

    change: Change
    settings: Settings
    routes: list[Route]
    theory: list[float]


@dataclass
class Prepared:
    """A configuration that has been read, and what will be run.

    Attributes:
        reader, text, reading: of the configuration.
        names: host name to address.
        arms: the first unchanged.
    """

    reader: Reader
    text: str
    reading: Reading
    names: dict[str, str]
    arms: list[Arm]


def prepare(order: Order) -> Prepared:
    """Read the configuration, and decide what will be run.

    Raises:
        UsageError: it cannot be read, or leads nowhere (see `readers`); no such change
            (``no-such-change``); an ``--origin`` or ``--client`` that is no address, or a client of
            another family than the listeners (``bad-origin``).
    """
    path = order.path.absolute()  # not resolved: what it includes lies beside its name
    _check(order)
    reader, text = readers.reader_for(path, order.program)
    reading = readers.read(path, reader)
    reading.routes = _asked(order, reading.routes)
    other = _other(order, reader, reading)
    names = _addresses_of(reading, order.origins)
    _tell_what_is_made(reading)
    changes = [
        Change(AS_IT_IS, "the configuration and settings as given"),
        *_changes(order, reader, reading, text, names),
        *other,
    ]
    if unknown := [name for name in order.only if name not in [change.name for change in changes]]:
        known = ", ".join(change.name for change in changes[1:])
        raise UsageError(
            f"there is no change called {unknown[0]!r} here", f"the changes are: {known}", "no-such-change"
        )
    arms = [
        _arm(order, reader, reading, change, names)
        for change in changes
        if change.name == AS_IT_IS or not order.only or change.name in order.only
    ]
    return Prepared(reader, text, reading, names, arms)


def _check(order: Order) -> None:
    """Check the options that name addresses and hosts."""
    if order.client and not is_address(order.client):
        raise UsageError(f"--client {order.client} is no address", "e.g. --client 192.168.1.20", "bad-origin")
    if order.host and not is_host(order.host):
        raise UsageError(f"--host {order.host} is no host's name", "e.g. --host www.example.com", "bad-origin")
    for name, address in order.origins.items():
        if not is_address(address):
            raise UsageError(
                f"--origin {name}={address}: {address!r} is no address", "e.g. --origin app=10.0.0.5", "bad-origin"
            )


def _asked(order: Order, routes: Sequence[Route]) -> list[Route]:
    """Return the routes that the options leave."""
    at_port = [route for route in routes if order.listen in (0, route.listener.port)]
    if not at_port:
        raise UsageError(
            f"no listener on port {order.listen} leads to an origin",
            f"those that do: {_ports(routes)}",
            "no-proxy-route",
        )
    wanted = order.client and family_of(order.client)
    reached = [route for route in at_port if wanted in ("", family_of(route.listener.host))]
    if not reached:
        has = family_of(at_port[0].listener.host)
        raise UsageError(
            f"--client {order.client} cannot reach the listeners, which are asked by IPv{has}",
            f"name an address of IPv{has}",
            "bad-origin",
        )
    return in_turn(reached, order.host, order.path_asked)


def _ports(routes: Sequence[Route]) -> str:
    return ", ".join(sorted({str(route.listener.port) for route in routes}))


def _other(order: Order, reader: Reader, reading: Reading) -> list[Change]:
    """Read the user's changed configuration, and have the lab provide what it asks for.

    Of the first configuration those routes stay that the changed one has, too.
    """
    if order.after is None:
        return []
    path = order.after.absolute()
    _, text = readers.reader_for(path, reader.name)
    other = readers.read(path, reader)
    both = [route for route in reading.routes if _same_way(route, other.routes)]
    if not both:
        raise UsageError(
            f"{order.after} has no listener on port {_ports(reading.routes)} that leads to an origin",
            f"its listeners are on: {_ports(other.routes)}; what is compared is asked by one port",
            "no-proxy-route",
        )
    reading.routes = both
    reading.merge(other)
    return [Change(order.after.name, f"the configuration {order.after}", text, other=other)]


def _same_way(route: Route, routes: Sequence[Route]) -> Route | None:
    """Return the one of `routes` for the requests of `route`: of its port, host, path and name."""

    def alike(other: Route) -> tuple[bool, bool]:
        return (other.host, other.path) == (route.host, route.path), other.name == route.name

    found = max((other for other in routes if other.listener.port == route.listener.port), key=alike, default=None)
    return found and replace(found, host=route.host, path=route.path)


def _addresses_of(reading: Reading, given: Mapping[str, str]) -> dict[str, str]:
    found = dict(given)
    free = (f"{_NAMES_FROM}{number}" for number in range(1, 255))
    missing = sorted(reading.names - set(found) - {"localhost"})
    found |= {name: next(free, "198.18.0.254") for name in missing}
    if missing:
        told = ", ".join(f"{name} {found[name]}" for name in missing)
        reading.lacks("name server", f"the lab's hosts file has: {told}; --origin NAME=ADDRESS gives another")
    if "localhost" in reading.names:
        found["localhost"] = "127.0.0.1"
    reading.addresses |= {found[listener.host] for listener in reading.listeners if listener.host in found}
    return found


def _tell_what_is_made(reading: Reading) -> None:
    """Tell the certificates and files that are not there."""
    for certificate in sorted(reading.certificates | reading.authorities):
        if not Path(certificate).exists():
            reading.lacks(
                f"certificate or key {certificate}", "the lab has a certificate of its own there, self-signed"
            )
    for file, text in sorted(reading.files.items()):
        if not text and not Path(file).exists():
            reading.lacks(f"file {file}", "the lab has an empty one")


def _changes(order: Order, reader: Reader, reading: Reading, text: str, names: Mapping[str, str]) -> list[Change]:
    """Return the kernel's and the origin's changes, and the program's."""
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
    route = reading.routes[0]
    families = _families(route, names)
    sources = sources_of(families.pop()) if len(families) == 1 else []
    proposed = reader.changes(reading, text, route, own, sources)
    return found + [change for change in proposed if change.method in ("", order.method)]


def _families(route: Route, names: Mapping[str, str]) -> set[int]:
    """Return the families of the addresses of its origins."""
    return {family_of(names.get(origin.host, origin.host)) for origin in route.origins}


def _arm(order: Order, reader: Reader, reading: Reading, change: Change, names: Mapping[str, str]) -> Arm:
    settings = _changed(order.settings, change)
    routes = reading.routes
    if change.other:
        routes = [way for route in routes if (way := _same_way(route, change.other.routes))]
    theory = [_theory(order, reader, route, change, settings, names) for route in routes]
    return Arm(change, _in_lab(order, settings), routes, theory)


def _changed(settings: Settings, change: Change) -> Settings:
    from twlab.overrides import Overrides

    return Overrides.parse(change.settings, []).settings.over(settings)


def _in_lab(order: Order, settings: Settings) -> Settings:
    """Return the settings as the lab has them: with the ports divided."""
    low, high = settings.port_low or LINUX_PORTS[0], settings.port_high or LINUX_PORTS[1]
    count = max(2, (high - low + 1) // order.divided_by)
    reuse = 2 if settings.tw_reuse is None else settings.tw_reuse
    return replace(settings, port_low=low, port_high=low + count - 1, tw_reuse=reuse)


def _theory(
    order: Order, reader: Reader, route: Route, change: Change, settings: Settings, names: Mapping[str, str]
) -> float:
    """Return ports x destinations / TIME_WAIT, of a proxy that closes first."""
    families = _families(route, names)
    bound = () if change.name == "no tcp_outgoing_address" else route.sources
    sources = {source for source in bound if family_of(source) in families}
    low, high = settings.port_low or LINUX_PORTS[0], settings.port_high or LINUX_PORTS[1]
    demand = Demand(
        rate_per_s=order.rate_per_s,
        origins=max(1, len(set(route.origins))),
        sources=SOURCES if change.name == "source addresses" else max(1, len(sources)),
        port_low=low,
        port_high=high,
        choice=PortChoice.BIND if sources and reader.name == "squid" else PortChoice.CONNECT,
        time_wait_s=order.hold_s,
        tw_reuse=2 if settings.tw_reuse is None else settings.tw_reuse,
        timestamps=settings.timestamps != 0,
        loopback=all(is_address(origin.host) and loopback(origin.host) for origin in route.origins),
        life_s=0,
    )
    return demand.four_tuples / demand.hold_s
