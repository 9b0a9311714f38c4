"""A TCP stack that is a program: raw frames on one descriptor, orders on another."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from twlab.errors import ScenarioError
from twlab.traffic.program import Program

if TYPE_CHECKING:
    from twlab.lab.lab import Lab

_ALL_PROTOCOLS = 3  # ETH_P_ALL
_BUFFER = 1 << 22  # bytes of frames that wait for the program
_PATIENCE_S = 10.0


class FarEnd:
    """Such a stack, running on a node until the arm ends or `stop`.

    Each start is a boot of the device: the stack begins anew. The node (`twlab.network.UserStack`)
    has an interface, and no address of the kernel's on it. The program reads and writes the
    interface's frames, and answers for the node's addresses, IPv4 and IPv6.

    Args:
        name: of the node.
        program: the program's path.
        more: what it is given besides, after the addresses.

    Raises:
        ScenarioError: the topology gave the node another stack (``no-such-stack``).
    """

    stack: ClassVar[str]  # as topologies have it
    title: ClassVar[str]  # as people have it

    def __init__(self, lab: Lab, name: str, program: Path, more: Sequence[str] = ()):
        node = lab.network[name]
        if getattr(node, "stack", "linux") != self.stack:
            raise ScenarioError(
                f"{name} does not have {self.title} as its TCP stack",
                f"the topology has to say so: pair,{name}={self.stack}",
                "no-such-stack",
            )
        interface = node.interfaces[0]
        with node.inside():
            self._frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._frames.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._frames.bind((interface.name, _ALL_PROTOCOLS))
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._orders.settimeout(_PATIENCE_S)
        words = [str(program), str(self._frames.fileno()), str(theirs.fileno()), interface.mac]
        words += [interface.peer.mac, node.ip4, node.ip6, *more]
        self.program = Program(node, lab.loop, words, {}, handed=(self._frames, theirs))
        theirs.close()
        self.name = name
        self._lab = lab
        lab.closing.callback(self.stop)
        lab.transcript.record("verb", f"boots {self.title}", name)

    def listen(self, port: int, ending: str) -> None:
        """Accept connections on `port`.

        Args:
            ending: what is done with each: ``close`` or ``abort`` it at once, or ``read`` from it.
        """
        self._lab.transcript.record("verb", f"listens on port {port}, to {ending}", self.name)
        self._carry_out(f"listen {port} {ending}")

    def connect(self, address: str, port: int, timeout_s: float = 10.0) -> str:
        """Connect, and return ``connected``, ``pending`` or an error's name.

        It waits for the outcome, at most `timeout_s`.
        """
        self._carry_out(f"connect {address} {port}")
        self._lab.wait_until(lambda: self.status()["outcome"] != "pending", timeout_s)
        outcome = str(self.status()["outcome"])
        self._lab.transcript.record("verb", f"connects to {address} port {port}: {outcome}", self.name)
        return outcome

    def close(self) -> None:
        """Close the connection that was read from or connected."""
        self._lab.transcript.record("verb", "closes", self.name)
        self._carry_out("close")

    def status(self) -> dict[str, int | str]:
        """Return what the stack reports of itself.

        ``time_wait`` and ``active`` are its control blocks; ``accepted`` connections and
        ``received`` bytes are counted since it booted, the latter by their value, too (``byte_110``
        for n); ``outcome`` and ``port`` are of the last connect, and so is, where the stack tells,
        ``first``, its first sequence number.
        """
        words = dict(word.split("=", 1) for word in self._ask("status").split())
        return {name: int(value) if value.isdigit() else value for name, value in words.items()}

    def stop(self) -> None:
        """Switch the device off: nothing is sent. May be called again."""
        self.program.stop()
        self._orders.close()
        self._frames.close()

    def _carry_out(self, order: str) -> None:
        if (answer := self._ask(order)) != "ok":
            raise ScenarioError(f"{self.title} at {self.name}, asked to {order}: {answer}", slug="no-such-stack")

    def _ask(self, order: str) -> str:
        try:
            self._orders.send(order.encode())
            return self._orders.recv(4096).decode()
        except OSError as error:
            raise ScenarioError(
                f"{self.title} at {self.name} does not answer ({error}): {self.program.last_words()}",
                "see the transcript",
                "program-ended",
            ) from error
