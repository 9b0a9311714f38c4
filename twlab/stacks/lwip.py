"""lwIP on a node: the distribution's library in a short C program of ours.

The node (`twlab.network.UserStack`) has an interface, and no address of the kernel's on it. The
program, `lwip.c`, reads and writes the interface's frames, and answers for the node's addresses,
IPv4 and IPv6. It is compiled at first use in a sandbox or boot, which takes about a second; where
the lab's clock is virtual, it stands still meanwhile.
"""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from twlab.errors import CapabilityError, ScenarioError
from twlab.traffic.program import Program

if TYPE_CHECKING:
    from twlab.lab.lab import Lab

TIME_WAIT_S = 120  # 2 * TCP_MSL, which is a minute (lwip/priv/tcp_priv.h)
SOURCE = Path(__file__).with_name("lwip.c")
_ALL_PROTOCOLS = 3  # ETH_P_ALL
_BUFFER = 1 << 22  # bytes of frames that wait for the program
_PATIENCE_S = 10.0


class LwipStack:
    """lwIP, running on a node until the arm ends or `stop`.

    Each start is a boot of the device: the stack begins anew, with the same first sequence number
    and the same first port, as lwIP does without a source of randomness.

    Args:
        name: of the node, which is a `UserStack`.

    Raises:
        CapabilityError: there is no C compiler, or no library (``no-lwip``).
        ScenarioError: the node has a stack of the kernel's (``no-such-stack``).
    """

    def __init__(self, lab: Lab, name: str):
        node = lab.network[name]
        if getattr(node, "stack", "") != "lwip":
            raise ScenarioError(
                f"{name} has the kernel's own TCP stack",
                f"the topology has to say so: pair,{name}=lwip",
                "no-such-stack",
            )
        program = compiled(Path("/run/twlab-lwip"))
        interface = node.interfaces[0]
        with node.inside():
            self._frames = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._frames.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._frames.bind((interface.name, _ALL_PROTOCOLS))
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._orders.settimeout(_PATIENCE_S)
        words = [str(program), str(self._frames.fileno()), str(theirs.fileno()), interface.mac]
        words += [interface.peer.mac, node.ip4, node.ip6]
        self.program = Program(node, lab.loop, words, {}, handed=(self._frames, theirs))
        theirs.close()
        self.name = name
        self._lab = lab
        lab.closing.callback(self.stop)
        lab.transcript.record("verb", "boots lwIP", name)

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
        for n); ``outcome``, ``port`` and ``first`` (sequence number) are of the last connect.
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
            raise ScenarioError(f"lwIP at {self.name}, asked to {order}: {answer}", slug="no-such-stack")

    def _ask(self, order: str) -> str:
        try:
            self._orders.send(order.encode())
            return self._orders.recv(4096).decode()
        except OSError as error:
            raise ScenarioError(
                f"lwIP at {self.name} does not answer ({error}): {self.program.last_words()}",
                "see the transcript",
                "program-ended",
            ) from error


def compiled(program: Path) -> Path:
    """Return `program`, made of lwip.c unless it is there.

    Raises:
        CapabilityError: there is no C compiler, or no library with its headers (``no-lwip``).
    """
    if program.exists():
        return program
    command = ["cc", "-O2", "-Wall", "-I/usr/include/lwip", "-o", str(program), str(SOURCE), "-llwip", "-lpthread"]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        fault = made.stderr.strip().partition("\n")[0] if made.returncode else ""
    except FileNotFoundError:
        fault = "there is no C compiler"
    if fault:
        remedy = "apt-get install gcc libc6-dev liblwip-dev, or: setup/install.sh"
        raise CapabilityError(f"lwIP cannot be compiled: {fault}", remedy, "no-lwip")
    return program
