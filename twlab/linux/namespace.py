"""The network namespace of a node, as kernel interfaces see it."""

from __future__ import annotations

import socket
from contextlib import AbstractContextManager
from typing import Protocol


class Namespace(Protocol):
    """A network namespace that a thread can enter."""

    def inside(self) -> AbstractContextManager[None]:
        """Switch this thread into the namespace for a block."""


class NodeNamespace(Namespace, Protocol):
    """The namespace of a node, which has a name and makes sockets."""

    @property
    def name(self) -> str:
        """The name in messages."""

    def socket(self, family: int = ..., type: int = ..., proto: int = ...) -> socket.socket:
        """Open a socket that belongs to the namespace."""
