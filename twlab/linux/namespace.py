"""The network namespace of a node, as kernel interfaces see it."""

from __future__ import annotations

import socket
from contextlib import AbstractContextManager
from typing import Protocol


class Namespace(Protocol):
    """A network namespace that a thread can enter."""

    def inside(self) -> AbstractContextManager[None]:
        """Switch this thread into the namespace for a block."""


class TcpNamespace(Namespace, Protocol):
    """A network namespace whose TCP sockets are listed often."""

    @property
    def diag(self) -> socket.socket:
        """A netlink socket to its table of TCP sockets, which stays open.

        See `twlab.linux.inet_diag`.
        """

    def close_diag(self) -> None:
        """Close that socket, if it is open; `diag` then opens another."""


class NodeNamespace(Namespace, Protocol):
    """The namespace of a node, which has a name and makes sockets."""

    @property
    def name(self) -> str:
        """The name in messages."""

    def socket(self, family: int = ..., type: int = ..., proto: int = ...) -> socket.socket:
        """Open a socket that belongs to the namespace."""
