"""Reads what strace wrote of a program's sockets."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from twlab.atlas.subject import PORT

CALLS = "socket,bind,connect,setsockopt"
_LINE = re.compile(r"^(?:(\d+)\s+)?(?:<\.\.\. (\w+) resumed>)?(.*)$")
_CALL = re.compile(r"^(\w+)\((\d+), (.*)\)\s+= (-?\d+)(?: (E[A-Z]+))?")
_SOCKET = re.compile(r"^socket\(AF_INET6?, SOCK_STREAM.*= (\d+)$")
_OPTION = re.compile(r"SOL?_?\w*, (\w+), ")
_ADDRESS = re.compile(r"port=htons\((\d+)\).*?(?:inet_addr\(\"([^\"]+)\"\)|inet_pton\(AF_INET6, \"([^\"]+)\")")
_OPTIONS = {
    "IP_BIND_ADDRESS_NO_PORT": "NO_PORT",
    "SO_REUSEADDR": "REUSEADDR",
    "SO_REUSEPORT": "REUSEPORT",
    "IP_LOCAL_PORT_RANGE": "PORT_RANGE",
    "0x33": "PORT_RANGE",  # as strace 6.1 prints it
    "SO_BINDTODEVICE": "BINDTODEVICE",
}
SHORT = ("EADDRNOTAVAIL", "EADDRINUSE")


@dataclass(frozen=True)
class Call:
    """A system call on a TCP socket.

    Attributes:
        name: ``setsockopt``, ``bind`` or ``connect``.
        socket: its descriptor.
        what: the option; or address and port, e.g. ``10.3.2.1:0``.
        error: e.g. ``EADDRINUSE``; empty without one.
    """

    name: str
    socket: int
    what: str
    error: str


def calls(text: str) -> Iterator[Call]:
    """Yield the calls in what ``strace -f`` wrote; ``socket`` has an empty `what`."""
    begun: dict[str, str] = {}
    for line in text.splitlines():
        found = _LINE.match(line)
        if not found:
            continue
        process, resumed, rest = found[1] or "", found[2], found[3].strip()
        if rest.endswith("<unfinished ...>"):
            begun[process] = rest.removesuffix("<unfinished ...>").rstrip()
            continue
        if resumed:
            before = begun.pop(process, "")
            rest = before + rest if rest.startswith(")") else f"{before} {rest}"
        if made := _SOCKET.match(rest):
            yield Call("socket", int(made[1]), "", "")
        elif call := _CALL.match(rest):
            name, descriptor, arguments, _, error = call.groups()
            if name == "setsockopt":
                option = _OPTION.search(arguments)
                what = _OPTIONS.get(option[1], "") if option else ""
            else:
                address = _ADDRESS.search(arguments)
                what = f"{address[2] or address[3]}:{address[1]}" if address else ""
            if what:
                yield Call(name, int(descriptor), what.replace("::ffff:", ""), error or "")


def before_connect(text: str, origin: str, visitors: Collection[int] = ()) -> list[str]:
    """List, for each connect() to `origin`, what was called on its socket before.

    For example ``NO_PORT REUSEADDR bind(10.3.2.1:0)``; ``bind(10.3.2.1:VISITORS)``; ``nothing``.

    Args:
        origin: address and port, e.g. ``10.2.1.1:80``.
        visitors: ports that visitors connected from, which differ from run to run. In a bind() such
            a port is told as ``VISITORS``.
    """
    made: dict[int, list[str]] = {}
    found = []
    for call in calls(text):
        if call.name == "socket":
            made[call.socket] = []
        elif call.name == "setsockopt":
            made.setdefault(call.socket, []).append(call.what + f" ({call.error})" * bool(call.error))
        elif call.name == "bind":
            address, port = call.what.rsplit(":", 1)
            named = f"{address}:VISITORS" if int(port) in visitors else call.what
            made.setdefault(call.socket, []).append(f"bind({named})" + f" {call.error}" * bool(call.error))
        elif call.what == origin and call.socket in made:  # not again, to see whether it is done
            found.append(" ".join(dict.fromkeys(made.pop(call.socket))) or "nothing")
    return found


def failures(text: str) -> list[str]:
    """List the calls that failed for want of a port, e.g. ``connect EADDRNOTAVAIL``.

    Those of a listener are not among them.
    """
    listener = f":{PORT}"
    short = [call for call in calls(text) if call.error in SHORT and not call.what.endswith(listener)]
    return [f"{call.name} {call.error}" for call in short]
