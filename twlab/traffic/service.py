"""The servers behind a balancer's virtual address, and visits to them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from twlab.errors import ScenarioError
from twlab.network.balancers import PORT, ServerPool
from twlab.traffic.applications import Attempt, Host, Listener
from twlab.traffic.connection import Connection

ENDINGS = ("", "server", "client", "reset")  # which end closes first; reset: by the client
_REST_S = 0.05  # by then the last segments of a close have passed the balancer


@dataclass(frozen=True, slots=True)
class Visit:
    """The outcome of one connect() to the virtual address.

    Attributes:
        server: name of the server that answered; empty: none did.
        error: name of the client's error, ``pending`` where nothing came; empty: connected.
        took_s: seconds from the call to its outcome.
        near, far: the client's and the server's end, where connected.
    """

    server: str
    error: str
    took_s: float
    near: Connection | None = None
    far: Connection | None = None

    def __bool__(self) -> bool:
        return bool(self.server)

    @property
    def ms(self) -> int:
        """The time that it took, in whole milliseconds."""
        return round(self.took_s * 1000)


class Service:
    """The service behind a balancer: every server listens.

    Args:
        balancer: the node with the virtual address, as a host.
        servers: name to host of every server.
        family: 4 or 6.
        virtual: servers listen on the virtual address, because packets reach them untranslated.
    """

    def __init__(self, balancer: Host, servers: dict[str, Host], family: int = 4, virtual: bool = False):
        assert isinstance(balancer.node, ServerPool)
        self.balancer, self.family = balancer, family
        at = balancer.address(family) if virtual else None
        self.listeners = {name: host.listen(PORT, family=family, address=at) for name, host in servers.items()}
        self._loop = balancer.loop

    def visit(
        self,
        client: Host,
        *,
        source_port: int = 0,
        source_address: str | None = None,
        patience_s: float = 4.0,
        ending: str = "server",
        to: Host | None = None,
    ) -> Visit:
        """Connect from `client`; then close the connection.

        Args:
            source_port, source_address: as in `Host.try_connect`.
            patience_s: seconds after which to give up.
            ending: one of `ENDINGS`; empty: it stays open.
            to: a server to connect to directly; None: the virtual address.
        """
        attempt = client.try_connect(
            to or self.balancer,
            PORT,
            source_port=source_port,
            source_address=source_address,
            family=self.family,
            timeout_s=patience_s,
        )
        if attempt.connection is None:
            return Visit("", attempt.error, attempt.took_s)
        visit = self._arrived(attempt, attempt.connection)
        self.end(visit, ending)
        return visit

    def end(self, visit: Visit, ending: str) -> None:
        """Close a visit's connection, as `visit` does."""
        assert ending in ENDINGS
        if ending == "" or visit.near is None or visit.far is None:
            return
        first, second = (visit.far, visit.near) if ending == "server" else (visit.near, visit.far)
        if ending == "reset":
            first.abort()
        else:
            first.close()
        second.wait_closed_by_peer()
        second.close()
        self._loop.sleep(_REST_S)

    def shares(self, visits: list[Visit]) -> dict[str, int]:
        """Count visits by the server that answered, every server among them."""
        counted = Counter(visit.server for visit in visits)
        return {name: counted[name] for name in self.listeners}

    def _arrived(self, attempt: Attempt, near: Connection) -> Visit:
        """Find the server where the connection arrived."""

        def found() -> list[tuple[str, Listener]]:
            return [(name, listener) for name, listener in self.listeners.items() if listener.waiting]

        if not self._loop.wait_until(found, 1.0):
            raise ScenarioError("the client is connected, and no server is", slug="transfer-failed")
        (name, listener), *_ = found()
        return Visit(name, "", attempt.took_s, near, listener.accept())
