"""A program of the atlas: how it is started, and how it is spoken to."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

PORT = 8080  # where visitors find a proxy
ORIGIN_PORT = 80
Speaks = Literal["http", "forward", "tls", "socks", "postgres"]
Runs = Literal["proxy", "once", "orders"]


@dataclass(frozen=True)
class Place:
    """Where a program runs, for its configuration.

    Attributes:
        origin, port: of the origin.
        source: the address that it shall connect from; empty: none is named.
        own: the address that it has, whether it is named or not.
        orders: a FIFO. Clients that run for more than one request read from it, a line for each:
            the method. They print a line for each, which begins with the status or the error.
    """

    origin: str = "10.2.1.1"
    port: int = ORIGIN_PORT
    source: str = ""
    own: str = "10.3.2.1"
    orders: str = "/run/orders"

    @property
    def address(self) -> str:
        """``10.2.1.1:80``."""
        return f"{self.origin}:{self.port}"

    @property
    def url(self) -> str:
        """The page that clients ask for."""
        return f"http://{self.origin}:{self.port}/"


@dataclass(frozen=True)
class Subject:
    """A program, set up in one way.

    Attributes:
        name: on the command line and in the table, e.g. ``haproxy-tcp``.
        program: its file.
        package: of Debian 12, or ``pip install ...``, that brings it.
        arguments: for a place, the program's own name left out; ``{folder}`` stands for the folder
            with its files.
        files: name to text for a place; ``{folder}`` stands for the same.
        runs: ``proxy``; or a client: ``once``, started for each request, or ``orders``, see
            `Place.orders`.
        speaks: how visitors speak to a proxy: ``http``, ``forward`` (a whole URL in the request),
            ``tls``, ``socks``; ``postgres``, which is also how a client speaks to the origin.
        source: how a source address is named; empty: it cannot.
        version: arguments that have the version printed.
        log: its own file of complaints.
        complaint: matches its line about a missing port. Its group is what is the same each time.
        statuses: what exit statuses of a client mean; others are ``exit N``.
        succeeds: matches what a client that is run for each request prints when it has its answer,
            where its exit status does not tell.
        needs: Python modules of a client, or absolute paths.
        methods: that it can send or pass on.
        relays: it passes bytes on, and has a connection to the origin for each of a visitor's, so
            that nothing can be said about a pool.
        idle_s: how long an idle connection is watched; programs that poll make that costly.
        prepares: a shell command that is run in the folder before the start.
    """

    name: str
    program: str
    package: str
    arguments: Callable[[Place], tuple[str, ...]]
    files: Callable[[Place], Mapping[str, str]] = field(default=lambda _: {})
    runs: Runs = "proxy"
    speaks: Speaks = "http"
    source: str = ""
    version: tuple[str, ...] = ("--version",)
    log: str = "output"
    complaint: re.Pattern[str] = re.compile(
        r"([Cc]annot assign requested address|[Aa]ddress already in use|(?:connect|bind) EADDR\w+)"
    )
    statuses: Mapping[int, str] = field(default_factory=dict)
    succeeds: re.Pattern[str] = re.compile("")
    needs: tuple[str, ...] = ()
    methods: tuple[str, ...] = ("GET", "POST")
    relays: bool = False
    idle_s: float = 200.0
    prepares: str = ""

    @property
    def is_client(self) -> bool:
        """Whether it asks by itself."""
        return self.runs != "proxy"


CERTIFICATE = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -subj /CN=lab "
    "-keyout key.pem -out cert.pem 2>/dev/null; cat key.pem cert.pem >both.pem"
)
"""Prepares ``both.pem``, for programs that take TLS from visitors."""
