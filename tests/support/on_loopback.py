"""A node that is this machine's loopback, for what needs sockets and no network of a lab."""

import socket


class Loopback:
    """As much of a node as applications and loads ask of it."""

    name = "loopback"

    def socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0) -> socket.socket:
        return socket.socket(family, kind, protocol)

    def address(self, family: int = 4) -> str:
        return "127.0.0.1" if family == 4 else "::1"
