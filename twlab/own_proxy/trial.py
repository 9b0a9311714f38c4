"""One lab with a user's proxy in it: starts the proxy, sends requests, observes."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twlab.errors import CapabilityError
from twlab.lab.assembly import assemble_nodes
from twlab.linux import tcp_sockets
from twlab.loop import Loop
from twlab.network import Network, Node
from twlab.own_proxy.network import AroundProxy, add_addresses, add_client, home_of, loopback
from twlab.own_proxy.origins import MARK, Ends, Origin
from twlab.own_proxy.reading import ANY_BY_IPV6, Place, Route
from twlab.settings import Settings
from twlab.traffic.http import WebClients
from twlab.traffic.program import Program

_LISTEN = "LISTEN"
_IN_FOLDER = ("/bin/sh", "-c", 'cd "$0" && exec "$@"')  # then the folder, the program, its arguments
_FILES = 524_288  # descriptors that systemd allows a service to ask for
_READY_S = 60.0
_PATIENCE_S = 10.0
_COUNTED_EVERY_S, _COUNTS = 1.0, 30  # TIME_WAIT sockets: listing them at full size takes a while
# Past the ceiling at full size each connect() looks at up to 28,232 ports: seconds of the kernel's
# own time at an instant of virtual time. Progress in between tells that from a guest that hangs.
_TOLD_EVERY_S, _TOLD_EVERY = 1.0, 50
_FORGIVEN_S = 11.0  # a server that was taken out for one failure is asked again (nginx: fail_timeout=10s)
_CLIENT = Settings(tw_reuse=1, port_low=1024, port_high=65_535)  # its own ports are not the matter


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What a trial runs.

    Attributes:
        program: its path.
        private: files of the folder that is its home, by relative path.
        environment: variables beside those that every program of a lab has.
        arguments: to run it, with the file's path in them.
        folder: where it starts: relative paths begin there.
        places: that the lab serves.
        addresses: of the proxy.
        names: host name to address.
        logs: files in which it complains.
        complaint: pattern of such a line.
        certificate: path of a PEM file for origins that speak TLS; empty: none do.
        keep_alive: clients keep their connections to the proxy.
        client: address that they have; empty: the lab's.
        method: of the requests of a load.
    """

    program: str
    private: Mapping[str, str]
    environment: Mapping[str, str]
    arguments: tuple[str, ...]
    folder: str
    places: tuple[Place, ...]
    addresses: tuple[str, ...]
    names: Mapping[str, str]
    logs: tuple[str, ...]
    complaint: str
    certificate: str
    keep_alive: bool = False
    client: str = ""
    method: str = "GET"

    def logged(self) -> list[str]:
        """Return the texts of those logs that are there."""
        return [path.read_text(errors="replace") for log in self.logs if (path := Path(log)).is_file()]


@dataclass
class Load:
    """What a load showed.

    Attributes:
        asked, answered: requests; answered with 200.
        sees: what clients saw instead, with how often.
        first_failure_s: seconds to the first request that failed; None without one.
        to_origin: connections that origins accepted.
        in_time_wait: node to the most TIME_WAIT sockets towards or at the origins; clients' own
            towards the proxy are left out.
        resets: of the connections to origins, ended with a RST by the proxy.
        complaints: lines of its log that tell of a missing port; `complaint` is the first.
    """

    asked: int
    answered: int
    sees: dict[str, int]
    first_failure_s: float | None
    to_origin: int
    in_time_wait: dict[str, int] = field(default_factory=dict)
    resets: int = 0
    complaints: int = 0
    complaint: str = ""


class Trial:
    """A lab in which the proxy runs; made by `running`."""

    def __init__(
        self, setup: Setup, route: Route, network: Network, loop: Loop, origins: list[Origin], origin_closes: bool
    ):
        self._setup, self._route, self._origin_closes = setup, route, origin_closes
        self._network, self._loop = network, loop
        self._origin_ports = {origin.port for origin in route.origins}
        self.origins = origins
        self.program: Program | None = None

    def ask(
        self, *, rate_per_s: float, duration_s: float, method: str = "GET", keep_alive: bool | None = None
    ) -> WebClients:
        """Begin to ask at a steady rate.

        The caller lets time pass until the clients are done.
        """
        node, address = self._target()
        tls = None
        if self._route.listener.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            tls = (context, self._route.host.partition(":")[0])
        keeps = self._setup.keep_alive if keep_alive is None else keep_alive
        return WebClients(
            node,
            self._loop,
            address,
            rate_per_s=rate_per_s,
            duration_s=duration_s,
            keep_alive=keeps,
            patience_s=_PATIENCE_S,
            request=self._request(method),
            tls=tls,
            source=self._setup.client,
        )

    def load(
        self,
        *,
        rate_per_s: float,
        duration_s: float,
        until_failure: bool = False,
        on_progress: Callable[[float], object] = lambda _: None,
    ) -> Load:
        """Ask at a steady rate, and observe.

        Args:
            until_failure: end with the first request that fails.
            on_progress: called now and then with the share of the requests that have been sent.
        """
        clients = self.ask(rate_per_s=rate_per_s, duration_s=duration_s, method=self._setup.method)
        most: dict[str, int] = {}
        ends_s = self._loop.now_s + duration_s + _PATIENCE_S + 1

        def over() -> bool:
            return clients.done or (until_failure and clients.first_failure_s is not None)

        counted_s, told_every_s = self._loop.now_s, min(_TOLD_EVERY_S, _TOLD_EVERY / rate_per_s)
        while not over() and self._loop.now_s < ends_s:
            self._loop.wait_until(over, told_every_s)
            on_progress(min(1.0, clients.asked / (rate_per_s * duration_s)))
            if over() or self._loop.now_s >= counted_s + max(_COUNTED_EVERY_S, duration_s / _COUNTS):
                counted_s = self._loop.now_s
                for name, count in self._in_time_wait().items():
                    most[name] = max(count, most.get(name, 0))
        answers = clients.answers
        clients.close()
        lines = self._complaints()
        return Load(
            asked=answers.total(),
            answered=answers["200"],
            sees={answer: count for answer, count in sorted(answers.items()) if answer != "200"},
            first_failure_s=clients.first_failure_s,
            to_origin=sum(origin.connections for origin in self.origins),
            in_time_wait=most,
            resets=sum(origin.resets for origin in self.origins),
            complaints=len(lines),
            complaint=lines[0] if lines else "",
        )

    def one(self, method: str = "GET") -> str:
        """Send one request; return the answer's status, or how it failed."""
        clients = self.ask(rate_per_s=1, duration_s=1, method=method)
        self._loop.wait_until(lambda: clients.done, _PATIENCE_S + 1)
        answer = next(iter(clients.answers), "timeout")
        clients.close()
        return answer

    def race(self, method: str, ends: Ends) -> dict[str, Any]:
        """Have a request meet the end of a kept connection.

        Returns:
            ``kept``: whether the proxy used a connection again at all; ``sees``: what the client of
            that request got; ``sent``: how often the request went out to an origin.
        """
        self.one("GET")
        self._loop.sleep(0.1)
        for origin in self.origins:
            origin.second = ends
        for _ in range(4):
            served, raced = self._count(method)
            sees = self.one(method)
            self._loop.sleep(0.1)
            after, met = self._count(method)
            if met > raced:
                break
        for origin in self.origins:
            origin.second = Ends.ANSWERS
        self._loop.sleep(_FORGIVEN_S)
        kept = met > raced
        return {"kept": kept, "sees": sees if kept else "", "sent": after - served + met - raced if kept else 0}

    def _count(self, method: str) -> tuple[int, int]:
        """Count the requests of a method: answered, and met by a connection's end."""
        answered = sum(origin.requests[method] for origin in self.origins)
        return answered, sum(origin.raced[method] for origin in self.origins)

    def _target(self) -> tuple[Node, tuple[str, int]]:
        """Return where the clients are, and the address and port that they ask."""
        host, port = self._route.listener.host, self._route.listener.port
        host = self._setup.names.get(host, host)
        if host in ("", ANY_BY_IPV6):
            near = self._network["proxy"].interface_to("client")
            host = (near.all6 if host else near.all4)[0]
        return self._network["proxy" if loopback(host) else "client"], (host, port)

    def _request(self, method: str) -> bytes:
        route = self._route
        body = b"hello" if method == "POST" else b""
        length = f"Content-Length: {len(body)}\r\n" if body else ""
        target = route.path
        if route.absolute:
            target = f"http://{route.host}{route.path}"
        # A proxy that passes bytes on passes this on, too: only so can its origin close first.
        close = "Connection: close\r\n" if self._origin_closes else ""
        head = f"{method} {target} HTTP/1.1\r\nHost: {route.host}\r\nUser-Agent: twlab\r\n{MARK}\r\n"
        head += f"{close}{length}\r\n"
        return head.encode() + body

    def _in_time_wait(self) -> dict[str, int]:
        found = {}
        for name in ("proxy", "server"):
            table = tcp_sockets.table(self._network[name])
            at_origin = sum(entry.local_port in self._origin_ports for entry in table)
            towards = sum(entry.remote_port in self._origin_ports for entry in table)
            if name == "proxy":
                found["proxy"] = towards
                found["origin"] = found.get("origin", 0) + at_origin
            else:
                found["origin"] += at_origin
        return found

    def _complaints(self) -> list[str]:
        texts = [self.program.read("output")] if self.program else []
        texts += self._setup.logged()
        pattern = re.compile(self._setup.complaint)
        return [line for text in texts for line in text.splitlines() if pattern.search(line)]


@contextmanager
def running(setup: Setup, route: Route, settings: Settings, *, origin_closes: bool) -> Iterator[Trial]:
    """Build a lab around the proxy, and start it.

    Raises:
        CapabilityError: the program is not installed, or the kernel cannot do what the settings
            ask.
        ScenarioError: it ended instead of serving (``program-ended``), or did not listen
            (``program-not-ready``).
    """
    nodes = {"client": _CLIENT, "proxy": settings, "wire": Settings(), "server": Settings()}
    with assemble_nodes(AroundProxy(), nodes) as (loop, network), ExitStack() as stack:
        resolved = {place: setup.names.get(place.host, place.host) for place in setup.places}
        add_addresses(network, setup.addresses, {*setup.names.values(), *resolved.values()})
        if setup.client:
            add_client(network, setup.client)
        origins = []
        for place, address in resolved.items():
            origin = Origin(
                home_of(network, address, setup.addresses),
                loop,
                (address, place.port),
                tls=_server_context(setup.certificate) if place.tls else None,
                closes=origin_closes,
            )
            stack.callback(origin.close)
            if place in route.origins:
                origins.append(origin)
        trial = Trial(setup, route, network, loop, origins, origin_closes)
        for log in setup.logs:
            if Path(log).is_file():
                Path(log).unlink()
        words = [*_IN_FOLDER, setup.folder, setup.program, *setup.arguments]
        program = Program(
            network["proxy"],
            loop,
            words,
            dict(setup.private),
            as_root=True,
            environment=setup.environment,
            most_files=_FILES,
        )
        program.name = Path(setup.program).name
        stack.callback(program.stop)
        trial.program = program
        _wait_ready(program, network["proxy"], route.listener)
        loop.sleep(0.5)  # processes of its own start, and check the origins
        yield trial


def _wait_ready(program: Program, node: Node, listener: Place) -> None:
    def listens() -> bool:
        return any(sock.state == _LISTEN and sock.local_port == listener.port for sock in tcp_sockets.sockets(node))

    program.wait_until(listens, _READY_S)


def _server_context(certificate: str) -> ssl.SSLContext:
    if not certificate:
        raise CapabilityError("an origin speaks TLS, and no certificate could be made", "install openssl", "no-openssl")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.num_tickets = 0  # Squid with GnuTLS takes one for the end of the connection
    return context
