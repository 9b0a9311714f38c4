"""The shell's verbs for connections: listen, connect, send, read, close."""

from __future__ import annotations

from collections.abc import Callable

from twlab.errors import ScenarioError, UsageError
from twlab.numerals import is_whole
from twlab.shell.verb_base import VerbBase
from twlab.traffic.connection import Connection

_BLOCK = 1 << 18
_PATIENCE_S = 130.0  # with connect(); the kernel's own is about 127 s
_ACCEPTS_S = 1.0  # the time that a server gets to accept what has been opened


class ConnectionVerbs(VerbBase):
    """Applications on the nodes, and their connections."""

    def do_listen(self, line: str) -> None:
        """listen NODE [PORT]: an application on NODE accepts connections (port 80 if none is said)."""
        words = line.split()
        if len(words) not in (1, 2):
            self._usage(self.do_listen)
        node, port = words[0], _port(words[1]) if len(words) == 2 else 80
        host = self.lab[node]
        if (node, port) in self.ends.listeners:
            raise UsageError(
                f"{node} listens on port {port} already",
                "choose another port; a listener accepts any number",
                "bad-phrase",
            )
        self.ends.listeners[node, port] = host.listen(port)
        self.say(f"{node} listens on port {port}")

    def do_connect(self, line: str) -> None:
        """connect NODE SERVER [PORT] [from PORT] [&]: NODE opens a connection, from a port of its
        own choice or from the one said. Its ends are then called c1 (NODE's) and s1 (the server's),
        the next connection's c2 and s2; a1 and b1 where nodes have such names. With & the next line
        is read at once, while the connection is being opened: see wait."""
        words = line.replace("&", " & ").split()
        behind = words[-1:] == ["&"]
        words = words[:-1] if behind else words
        source_port = _port(words[words.index("from") + 1]) if "from" in words[:-1] else 0
        plain = words[: words.index("from")] if "from" in words else words
        if len(plain) not in (2, 3) or "&" in words or len(words) - len(plain) not in (0, 2):
            self._usage(self.do_connect)
        port = _port(plain[2]) if len(plain) == 3 else 80
        began = self.lab[plain[0]].begin_connect(self.lab[plain[1]], port, source_port=source_port)
        name = self.ends.begin(began, plain[1], port)
        if behind:
            self.say(f"{name}: is being opened; wait lets time pass until that has an outcome")
            return
        began.wait(_PATIENCE_S)
        self._settle()

    def do_wait(self, line: str) -> None:
        """wait [SECONDS]: let time pass until every connect & has an outcome, for 130 seconds if
        none are said.
        """
        self.lab.loop.wait_until(
            lambda: not self.ends.pending, self._seconds(line, self.do_wait) if line else _PATIENCE_S
        )
        self._settle()
        if self.ends.pending:
            self.say("no answer yet")

    def _settle(self) -> None:
        """Name the ends of what has been opened; a server gets a moment to accept."""
        self.lab.loop.wait_until(lambda: self.ends.complete, _ACCEPTS_S)
        self.ends.settle()

    def do_send(self, line: str) -> None:
        """send END TEXT, or send END 1000 bytes: the application at END (c1, s1, ...) sends."""
        name, _, text = line.partition(" ")
        count, _, unit = text.partition(" ")
        if unit in ("bytes", "byte") and is_whole(count):
            self._open(name).send(b"." * min(int(count), _BLOCK), total=int(count))
        elif text:
            self._open(name).send(text.encode())
        else:
            self._usage(self.do_send)

    def do_read(self, line: str) -> None:
        """read END [200-239]: the application at END reads what has arrived, and shows it. A range
        shows these bytes of all that it has read so far, the first of which is number 0."""
        words = line.split()
        if len(words) not in (1, 2):
            self._usage(self.do_read)
        self.say(self.ends.read(*words))

    def do_close(self, line: str) -> None:
        """close END: the application at END closes (FIN). Who closes first has the TIME_WAIT."""
        self._end(line, self.do_close).close()

    def do_reset(self, line: str) -> None:
        """reset END: the application at END aborts the connection (RST, and no TIME_WAIT)."""
        self._end(line, self.do_reset)
        self._open(line).abort()

    def do_connections(self, _line: str) -> None:
        """connections: all connections opened here, with the state of either end."""
        self._table(
            ("end", "node", "local", "remote", "state", "arrived"),
            [
                (name, end.node.name, f"{end.flow.source}:{end.flow.source_port}",
                 f"{end.flow.destination}:{end.flow.destination_port}", end.error or end.state, f"{end.received} bytes")
                for name, end in self.ends.named.items()
            ],
        )  # fmt: skip

    def _end(self, name: str, verb: Callable[[str], None]) -> Connection:
        return self.ends[name] if name else self._usage(verb)

    def _open(self, name: str) -> Connection:
        """Return the end `name`, which is not closed: so a refusal is not in the transcript."""
        end = self.ends[name]
        if end.state == "CLOSED":
            raise ScenarioError(
                f"{name} is closed: {end.node.name} cannot use it", "see: connections", "connection-closed"
            )
        return end


def _port(text: str) -> int:
    if not (is_whole(text) and 1 <= int(text) <= 65535):
        raise UsageError(f"{text!r} is no port", "a port is a number from 1 to 65535", "bad-phrase")
    return int(text)
