"""How many ports of a range connect() finds, before it fails for the first time; runs in the lab
kernel.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path

from kernel_cases import loopback_up

IP_LOCAL_PORT_RANGE = 51  # include/uapi/linux/in.h


def found(ports: int, choice: str, tries: int, rounds: int) -> list[list[int]]:
    """For each round: connections made before the first failure, and in all, of `tries` over
    loopback from a range of `ports`.

    Args:
        choice: ``connect``, ``bind`` (to port 0 first) or ``range`` (IP_LOCAL_PORT_RANGE).
    """
    Path("/proc/sys/net/ipv4/ip_local_port_range").write_text(f"40000 {40_000 + ports - 1}")
    loopback_up()
    results = []
    for number in range(rounds):
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(socket.create_server(("127.0.0.1", 8000 + number), backlog=4096))
            made, first = 0, -1
            for _ in range(tries):
                sock = stack.enter_context(socket.socket())
                try:
                    if choice == "bind":
                        sock.bind(("127.0.0.1", 0))
                    if choice == "range":
                        sock.setsockopt(
                            socket.IPPROTO_IP,
                            IP_LOCAL_PORT_RANGE,
                            struct.pack("=I", (40_000 + ports - 1) << 16 | 40_000),
                        )
                    sock.connect(server.getsockname())
                    made += 1
                except OSError:
                    sock.close()
                    if first < 0:
                        first = made
            results.append([first, made])
    return results
