"""The gateway of a rootless container: slirp4netns or pasta.

A container without root has no link to the outside. A program of the user's makes a TAP device in
the container's network namespace, and opens a socket on the host for each connection that it sees
there. So a connection is two, the container's and the host's.

Here one node is the container and another its host. The container has a route to each node that it
shall reach, through the TAP.
"""

from __future__ import annotations

import itertools
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from twlab.errors import CapabilityError, UsageError
from twlab.linux import rtnetlink, syscalls, tun
from twlab.traffic.program import Program, find

if TYPE_CHECKING:
    from twlab.lab.lab import Lab

PACKAGES = {"slirp4netns": "slirp4netns", "pasta": "passt"}
_TAP = "tap0"
# The container's address, and the gateway's, as slirp4netns has them.
_CONTAINER, _GATEWAY = "10.0.2.100", "10.0.2.2"
# linux/capability.h: NET_ADMIN and SYS_ADMIN, to make a device in another network namespace
_TO_ENTER = frozenset({12, 21})


class RootlessGateway:
    """A gateway program, running on a host until the arm ends.

    Args:
        program: ``slirp4netns`` or ``pasta``.
        container, host: names of nodes.
        to: names of the nodes that the container reaches through it, over IPv4.

    Raises:
        UsageError: no such program (``bad-setting``).
        CapabilityError: it is not installed (``no-program``), there is no /dev/net/tun
            (``no-tun``), or the kernel lacks what the program asks for (``no-rootless``).
    """

    def __init__(self, lab: Lab, program: str, container: str, host: str, to: list[str]):
        if program not in PACKAGES:
            raise UsageError(
                f"program={program} is not possible: {' or '.join(PACKAGES)} is wanted",
                "for example: --set program=pasta",
                "bad-setting",
            )
        self.program_name = program
        inside = lab.network[container]
        path = find(program)
        tun.check()
        self._place = _mounted(inside.namespace)
        lab.closing.callback(self._leave)
        words = [path, *_words(program, str(self._place), lab.network[host].interfaces[0].name)]
        self.program = Program(lab.network[host], lab.loop, words, {}, as_root=True, may=_TO_ENTER)
        lab.closing.callback(self.program.stop)

        def ready() -> bool:
            with inside.inside():
                return any(name == _TAP for _, name in socket.if_nameindex())

        lab.loop.wait_until(lambda: ready() or self.program.status is not None, 10.0)
        if self.program.status is not None:
            remedy = "run it on this machine's kernel: --engine host" if program == "pasta" else "see the transcript"
            raise CapabilityError(
                f"{program} ended with status {self.program.status}: {self.program.last_words()}", remedy, "no-rootless"
            )
        with inside.inside():
            index = socket.if_nametoindex(_TAP)
            requests = [rtnetlink.up(index), rtnetlink.address(index, _CONTAINER, 24)]
            rtnetlink.carry_out(requests + [rtnetlink.route(index, lab.network[name].ip4, 32, _GATEWAY) for name in to])
        lab.transcript.record("verb", f"reaches {', '.join(to)} through {program} at {host}", container)

    def _leave(self) -> None:
        syscalls.unmount(str(self._place))
        self._place.unlink()


def _words(program: str, namespace: str, outward: str) -> list[str]:
    if program == "slirp4netns":
        return ["--netns-type=path", namespace, _TAP]
    # As root it would become another user, who may not enter the namespace. Without a default route
    # on the host it has to be told its addresses.
    own = ("--foreground", "--quiet", "--runas", "0:0", "--ipv4-only", "--no-map-gw")
    place = ("--netns-only", "--netns", namespace, "--ns-ifname", _TAP, "--interface", outward)
    address = ("--address", _CONTAINER, "--netmask", "24", "--gateway", _GATEWAY)
    closed = ("--tcp-ports", "none", "--udp-ports", "none", "--tcp-ns", "none", "--udp-ns", "none")
    return [*own, *place, *address, *closed]


def _mounted(namespace: int) -> Path:
    """Give a network namespace a path, which is how the programs take it."""
    for number in itertools.count(1):
        path = Path(f"/run/container-{number}")
        if not path.exists():
            path.touch()
            syscalls.mount(f"/proc/self/fd/{namespace}", str(path), flags=syscalls.MS_BIND)
            return path
    raise AssertionError
