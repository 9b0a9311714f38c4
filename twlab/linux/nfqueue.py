"""The netfilter queue of one network namespace: forwarded TCP segments come up here, and a verdict
goes back down.

Two things make it cheap and lossless. The firewall rule has the bypass flag, so while nobody has
bound the queue every segment passes at the kernel's speed; a `Tap` is therefore opened only while
the wire has something to do. And the queue fails open: what does not fit passes. `Tap.close` uses
that to let go without losing a segment: length 0 (all new ones pass), serve what is left, unbind.
Unbinding alone would drop what is waiting.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from struct import pack
from typing import TYPE_CHECKING, NamedTuple

from twlab.errors import CapabilityError
from twlab.linux import netlink, nftables
from twlab.linux.programs import find_program
from twlab.linux.syscalls import enlarge_receive_buffer

if TYPE_CHECKING:
    from netfilterqueue import Packet

    from twlab.linux.namespace import NodeNamespace

NUMBER = 1  # queue numbers belong to a network namespace, so one serves every lab
LENGTH = 65_536  # segments that may wait; TCP's windows keep it far below
_LARGEST = 68_000  # bytes of one message: an IP packet of 65,535, and what the kernel tells of it
_BUFFER_BYTES = 64 << 20
_MESSAGE_CONFIG = 3 << 8 | 2  # linux/netfilter/nfnetlink_queue.h: subsystem QUEUE, NFQNL_MSG_CONFIG
_MAXLEN, _MASK, _FLAGS = 3, 4, 5  # attributes NFQA_CFG_*
_FAIL_OPEN = 1
_PARAMS, _COPY_PACKET = 2, 2  # NFQA_CFG_PARAMS (copy range, copy mode), NFQNL_COPY_PACKET


class Segments(NamedTuple):
    """Which segments of a node go to the queue: where they pass, and which of them, in the words of
    both rule languages.
    """

    chain: str  # FORWARD or INPUT
    nft: str
    iptables: str


FORWARDED = Segments("FORWARD", "meta l4proto tcp", "-p tcp")


def install(node: NodeNamespace, segments: Segments = FORWARDED) -> str:
    """Send TCP segments of `node` to the queue, those that it forwards unless others are named;
    they pass while nobody has bound it.

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
        "load nft_queue (modprobe nft_queue) or install iptables, or use the lab kernel: --engine guest",
        "no-netfilter-queue",
    )


class Tap:
    """The queue, bound. `callback(packet)` must give each packet its verdict; call `serve` when
    `fileno()` is readable.

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
                message, "end what else uses it; twlab doctor tells more", "no-netfilter-queue"
            ) from error
        self._configure({_MASK: _FAIL_OPEN, _FLAGS: _FAIL_OPEN})
        self._copy_whole()
        enlarge_receive_buffer(self._socket, _BUFFER_BYTES)

    def fileno(self) -> int:
        return self._socket.fileno()

    def serve(self) -> None:
        """Hand every waiting packet to the callback."""
        self._queue.run_socket(self)

    def recv(self, size: int) -> bytes:
        """What `run_socket` reads with. It asks for 4096 bytes, which would lose larger segments
        without a word.
        """
        try:
            return self._socket.recv(max(size, _LARGEST))
        except BlockingIOError:
            raise
        except OSError:
            self.overruns += 1
            raise

    def close(self) -> None:
        """Unbind, so that segments bypass the queue again; none is lost and none overtakes another."""
        self.serve()
        self._configure({_MAXLEN: 0})
        self.serve()
        self._queue.unbind()
        self._socket.close()

    def _configure(self, attributes: dict[int, int]) -> None:
        self._send(b"".join(netlink.attribute(kind, pack("!I", value)) for kind, value in attributes.items()))

    def _copy_whole(self) -> None:
        """Have the kernel hand up whole packets; the library settles for their first 4016 bytes."""
        self._send(netlink.attribute(_PARAMS, pack("!IB", 0xFFFF, _COPY_PACKET)))

    def _send(self, attributes: bytes) -> None:
        queue = pack("!BBH", socket.AF_UNSPEC, 0, NUMBER)  # nfgenmsg: family, version, resource
        self._socket.send(netlink.message(_MESSAGE_CONFIG, queue + attributes))
