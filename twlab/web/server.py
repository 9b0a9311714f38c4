"""Starts the server: gives up root, looks whether a guest comes up, listens."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
import pwd
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h11
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from twlab import paths
from twlab.engines import kernel_path
from twlab.errors import CapabilityError, UsageError
from twlab.web import app
from twlab.web.driver import WarmGuests
from twlab.web.guard import Rate, Secret
from twlab.web.runs import Runs
from twlab.web.site import Site
from twlab.web.store import LOCK, Store

_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_HEAD_S = 10  # real seconds within which the head of a request has to arrive
_MOST_AT_ONCE = 1500  # connections
_NOBODY = 65534
DATABASE, SECRET, WORKERS = "serve.sqlite", "secret", "workers"
# All that is in a state folder; a kill may have left the secret half written.
OWN = {DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm", f"serve{LOCK}", SECRET, f"{SECRET}.new", WORKERS}


@dataclass(frozen=True)
class Served:
    """How to serve.

    Attributes:
        host, port: where to listen.
        state: folder of the database and the secret; None: the user's.
        workers: guests side by side.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    state: Path | None = None
    workers: int = 2

    @property
    def public(self) -> bool:
        """Whether others than this machine's users can reach it."""
        try:
            return not ipaddress.ip_address(self.host.strip("[]")).is_loopback
        except ValueError:
            return self.host != "localhost"

    @property
    def name(self) -> str:
        """The host as it stands in an address of the web."""
        host = self.host.strip("[]")
        return "localhost" if host == "127.0.0.1" else f"[{host}]" if ":" in host else host


def make(served: Served) -> tuple[Starlette, Site]:
    """Return the application and its parts, not yet listening.

    Raises:
        CapabilityError: the lab kernel has not been built (``no-lab-kernel``), or the folder cannot
            be written to (``cannot-write``).
        UsageError: another server has the folder (``state-in-use``).
    """
    state = served.state or default_state()
    kernel = kernel_path()
    store = Store(state / DATABASE)
    runs = Runs(store, state / WORKERS, workers=served.workers)
    token = secrets.token_urlsafe(9) if served.public else ""
    site = Site(store, runs, Secret(state / SECRET), _digest(kernel), token)
    # A class behind one gateway has one address.
    rate = Rate(200, 2000) if served.public else Rate(5000, 20_000)
    posts = Rate(10, 200) if served.public else Rate(500, 2000)
    return app.build(site, () if served.public else (*_LOCAL, served.name), rate, posts), site


def bind(served: Served) -> socket.socket:
    """Return the socket to listen at.

    Raises:
        UsageError: the port is taken, or there is no such address (``bad-address``).
    """
    host = served.host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        at = socket.create_server((host, served.port), family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        message = f"{served.host} port {served.port} cannot be listened at: {error}"
        remedy = "choose another with --host or --port, or end the program that has it"
        raise UsageError(message, remedy, "bad-address") from error
    # Connections inherit it. asyncio would set it, but not where the socket's protocol reads 0, TCP
    # by default, as here. And Nagle holds the body of a page until its head is acknowledged.
    at.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return at


def listen(at: socket.socket, made: Starlette) -> None:
    """Serve until SIGINT or SIGTERM."""
    config = uvicorn.Config(
        made,
        http=_Timed,
        ws="none",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_AT_ONCE,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=1,
    )
    uvicorn.Server(config).run(sockets=[at])


def try_guest(state: Path) -> None:
    """Have one confined guest come up, and end it.

    Raises:
        CapabilityError, EngineError: it does not.
    """
    folder = state / WORKERS / "first"
    folder.mkdir(parents=True, exist_ok=True)
    guests = WarmGuests(folder)
    try:
        guests.warm()
    finally:
        guests.end()


def give_up_root(state: Path | None) -> str:
    """As root, become an unprivileged user; return its name.

    It is the user who called sudo, or else the one who owns nothing.

    Args:
        state: a folder that this user will write to.

    Raises:
        CapabilityError: that user cannot run this Python (``no-user``).
    """
    if os.getuid() != 0:
        return ""
    number = int(os.environ.get("SUDO_UID") or _NOBODY) or _NOBODY
    user = pwd.getpwuid(number)
    folder = state or Path("/var/lib/twlab") / user.pw_name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if {path.name for path in folder.iterdir()} <= OWN:  # a folder of the user's own stays as it is
        for path in (folder, *folder.rglob("*")):
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    os.setgroups([])
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    os.environ.update(HOME=str(folder), USER=user.pw_name, LOGNAME=user.pw_name)
    if not os.access(paths.PACKAGE / "web" / "server.py", os.R_OK):
        raise CapabilityError(
            f"the server is never root, and user {user.pw_name} cannot read {paths.PACKAGE}",
            "start it as an ordinary user",
            "no-user",
        )
    return user.pw_name


def default_state() -> Path:
    """Return the user's folder for what the server keeps."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "twlab"


class _Timed(H11Protocol):
    """HTTP/1.1 for which the head of each request has to arrive within `_HEAD_S` seconds."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._begin()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Time a head of which only a part is there; the time until one begins is uvicorn's."""
        part, _ = self.conn.trailing_data
        if part and self.conn.their_state is h11.IDLE:
            self._begin()
        else:
            self._end()

    def _begin(self) -> None:
        self._head = self._head or self.loop.call_later(_HEAD_S, self.transport.close)

    def _end(self) -> None:
        if self._head:
            self._head.cancel()
            self._head = None


def _digest(kernel: Path) -> str:
    """Return what tells apart two lab kernels, or two versions of twlab's own text."""
    digest = hashlib.sha256(f"{kernel.parent.name} {kernel.stat().st_size}".encode())
    for folder in (paths.PACKAGE, paths.TOPOLOGIES):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
