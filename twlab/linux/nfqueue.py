"""The netfilter queue of a network namespace: segments come up, verdicts go down.

Two things make it cheap and lossless. The firewall rule has the bypass flag, so segments pass at
the kernel's speed while the queue is not bound. A `Tap` is open only while the wire has work. And
the queue fails open: a segment that does not fit passes. `Tap.close` uses that to unbind without
losing a segment: it sets the length to 0 (all new ones pass), serves the rest, unbinds. Unbinding
alone would drop the segments that wait.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from struct import pack
from typing import TYPE_CHECKING, NamedTuple

from twlab import lab_kernel
from twlab.errors import CapabilityError
from twlab.linux import netlink, nftables
from twlab.linux.programs import find_program
from twlab.linux.syscalls import enlarge_receive_buffer

if TYPE_CHECKING:
    from netfilterqueue import Packet

    from twlab.linux.namespace import NodeNamespace

NUMBER = 1  # queue numbers belong to a network namespace, so one serves every lab
LENGTH = 65_536  # segments that may wait; TCP's windows keep it far below
_LARGEST = 68_000  # bytes of one message: an IP packet of 65,535, and the kernel's attributes
_BUFFER_BYTES = 64 << 20
_MESSAGE_CONFIG = 3 << 8 | 2  # linux/netfilter/nfnetlink_queue.h: subsystem QUEUE, NFQNL_MSG_CONFIG
_MAXLEN, _MASK, _FLAGS = 3, 4, 5  # attributes NFQA_CFG_*
_FAIL_OPEN = 1
_PARAMS, _COPY_PACKET = 2, 2  # NFQA_CFG_PARAMS (copy range, copy mode), NFQNL_COPY_PACKET


class Segments(NamedTuple):
    """The segments of a node that go to the queue, for both rule languages."""

    chain: str  # FORWARD or INPUT
    nft: str
    iptables: str


FORWARDED = Segments("FORWARD", "meta l4proto tcp", "-p tcp")


def install(node: NodeNamespace, segments: Segments = FORWARDED) -> str:
    """Send TCP segments of `node` to the queue; they pass while it is not bound.

    Default: the segments that the node forwards.

    Returns:
        The mechanism: ``nft queue``, or ``iptables NFQUEUE`` where the kernel lacks the former.

    Raises:
        CapabilityError: neither works here (``no-netfilter-queue``).
    """
    hook = segments.chain.lower()
    rules = f"""
        table inet twlab_queue {{
            chain {hook} {{
                type filter hook {hook} priority mangle;
                {segments.nft} queue flags bypass to {NUMBER}
            }}
        }}"""
    with node.inside():
        try:
            nftables.apply(rules)
            return "nft queue"
        except CapabilityError as error:
            reasons = [error.message]
        for tool in ("iptables", "ip6tables"):
            program = find_program(tool)
            if program is None:
                reasons.append(f"{tool} is not installed")
                break
            rule = f"-t mangle -A {segments.chain} {segments.iptables} -j NFQUEUE --queue-num {NUMBER} --queue-bypass"
            done = subprocess.run(
                [program, *rule.split()], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}, check=False
            )
            if done.returncode != 0:
                reasons.append(f"{tool}: {done.stderr.strip()}")
                break
        else:
            return "iptables NFQUEUE"
    raise CapabilityError(
        f"this kernel hands no segments to the netfilter queue ({'; '.join(reasons)})",
        lab_kernel.or_guest("load nft_queue (modprobe nft_queue), or install iptables"),
        "no-netfilter-queue",
    )


class Tap:
    """The queue, bound.

    `callback(packet)` must give each packet its verdict. Call `serve` when `fileno()` is readable.

    Attributes:
        overruns: how often the socket's buffer was full; segments passed unseen then.
    """

    def __init__(self, node: NodeNamespace, callback: Callable[[Packet], object]):
        from netfilterqueue import NetfilterQueue

        self.overruns = 0
        with node.inside():
            self._queue = NetfilterQueue()
        self._socket = socket.socket(fileno=os.dup(self._queue.get_fd()))
        self._socket.setblocking(False)
        try:
            self._queue.bind(NUMBER, callback, max_len=LENGTH, sock_len=1 << 16)
        except OSError as error:
            message = f"the netfilter queue of {node.name} cannot be bound: {error}"
            raise CapabilityError(
                message, "end the other program that uses it; twlab doctor shows more", "no-netfilter-queue"
            ) from error
        self._configure({_MASK: _FAIL_OPEN, _FLAGS: _FAIL_OPEN})
        self._copy_whole()
        enlarge_receive_buffer(self._socket, _BUFFER_BYTES)

    def fileno(self) -> int:
        return self._socket.fileno()

    def serve(self) -> None:
        """Pass every waiting packet to the callback."""
        self._queue.run_socket(self)

    def recv(self, size: int) -> bytes:
        """Read one message, for `run_socket`.

        That asks for 4096 bytes, which would cut larger segments off without an error.
        """
        try:
            return self._socket.recv(max(size, _LARGEST))
        except BlockingIOError:
            raise
        except OSError:
            self.overruns += 1
            raise

    def close(self) -> None:
        """Unbind, so that segments bypass the queue again.

        No segment is lost, and none overtakes another.
        """
        self.serve()
        self._configure({_MAXLEN: 0})
        self.serve()
        self._queue.unbind()
        self._socket.close()

    def _configure(self, attributes: dict[int, int]) -> None:
        self._send(b"".join(netlink.attribute(kind, pack("!I", value)) for kind, value in attributes.items()))

    def _copy_whole(self) -> None:
        """Have the kernel send whole packets up.

        The library asks for their first 4016 bytes only.
        """
        self._send(netlink.attribute(_PARAMS, pack("!IB", 0xFFFF, _COPY_PACKET)))

    def _send(self, attributes: bytes) -> None:
        queue = pack("!BBH", socket.AF_UNSPEC, 0, NUMBER)  # nfgenmsg: family, version, resource
        self._socket.send(netlink.message(_MESSAGE_CONFIG, queue + attributes))
