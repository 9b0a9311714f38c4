"""The shell's own verbs: connections, the wire, settings, and what there is to see.
`twlab.shell.repl` adds Mininet's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twlab.errors import UsageError
from twlab.linux import tcp_sockets
from twlab.numerals import is_whole, real
from twlab.segment import Segment
from twlab.settings import Settings, describe, parse_setting, setting_names
from twlab.shell import crossing, phrases
from twlab.shell.ends import Ends
from twlab.traffic.applications import Connection

if TYPE_CHECKING:
    from twlab.lab.assembly import RunningLab
    from twlab.lab.lab import Lab
    from twlab.report.ladder.numbering import Numbering
    from twlab.results.pcapng_reading import Sighting
    from twlab.wire.wire import Rule, Wire

_ETHERNET_BYTES = 14
_BLOCK = 1 << 18
_PATIENCE_S = 130.0  # with connect(); the kernel's own is about 127 s
_ACCEPTS_S = 1.0  # the time that a server gets to accept what has been opened
GROUPS = {
    "connections": ("listen", "connect", "wait", "send", "read", "close", "reset", "connections"),
    "the wire": (
        "segments",
        "hold",
        "copy",
        "duplicate",
        "delay",
        "drop",
        "reorder",
        "inject",
        "held",
        "release",
        "stop",
    ),
    "what there is": ("timewait", "sockets", "counters", "settings", "ladder"),
    "time and words": ("sleep", "step"),
}


class Verbs:
    """The verbs. Each takes the rest of its line; the first lines of its docstring are its help.

    Attributes:
        running: the running lab.
        ends: the ends of connections, by name.
        rules: name to rule of a wire: ``r1``, ``r2``, ...
    """

    running: RunningLab
    say: Callable[[str], None]

    def __init__(self, nodes: Iterable[str]) -> None:
        self.ends = Ends(nodes, lambda text: self.say(text))
        self.rules: dict[str, Rule] = {}
        self._watches: list[Rule] = []
        self._numbering: Numbering | None = None

    @property
    def lab(self) -> Lab:
        """The lab in hand."""
        return self.running.lab

    @property
    def addresses(self) -> dict[str, list[str]]:
        """Node to all its addresses, a virtual one among them."""
        nodes = self.lab.network.nodes.items()
        return {
            name: list(dict.fromkeys([node.ip4, node.ip6, *(ip for i in node.interfaces for ip in i.all4 + i.all6)]))
            for name, node in nodes
        }

    # Connections.

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
            self.ends[name].send(b"." * min(int(count), _BLOCK), total=int(count))
        elif text:
            self.ends[name].send(text.encode())
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
        self._end(line, self.do_reset).abort()

    def do_connections(self, _line: str) -> None:
        """connections: all connections opened here, with the state of either end."""
        self._table(
            ("end", "node", "local", "remote", "state", "arrived"),
            [
                (name, end.node.name, f"{end.flow.source}:{end.flow.source_port}", f"{end.flow.destination}:{end.flow.destination_port}",
                 end.error or end.state, f"{end.received} bytes")
                for name, end in self.ends.named.items()
            ],
        )  # fmt: skip

    # The wire.

    def do_segments(self, line: str) -> None:
        """segments on [WHICH]: show segments as they come to the wire. segments off: no more.
        segments [N]: the last N that have crossed (20 if none is said), with the numbers that
        inject and the ladder use."""
        word, _, rest = line.partition(" ")
        if word == "on":
            phrase = phrases.parse(rest, self.addresses, count=None)
            from twlab.report.ladder.numbering import Numbering

            crossing.check(phrase, self._wire(phrase.at).node)
            self._numbering = self._numbering or Numbering()
            for seen in self.sightings():
                self._numbering.learn(seen.segment.flow, seen.segment)
            self._watches.append(self._wire(phrase.at).watch(phrase.match, self._show))
            self.say("segments are shown as they come to the wire, until: segments off")
        elif word == "off":
            for watch in self._watches:
                watch.stop()
            self._watches.clear()
        elif is_whole(word) or not word:
            from twlab.report.ladder.arrows import arrows
            from twlab.report.ladder.transits import transits

            ways = transits(self.sightings(), self.lab.network.nodes)
            for arrow in arrows(ways)[-int(word or 20) :]:
                self.say(
                    f"#{arrow.number:<4} {arrow.left_s:9.4f}  {arrow.path[0]} > {arrow.path[-1]}  {arrow.label()}  {arrow.words}".rstrip()
                )
        else:
            self._usage(self.do_segments)

    def do_hold(self, line: str) -> None:
        """hold WHICH [count 2]: the wire takes the next segment of that kind, until you release it.
        WHICH: any, data, syn, synack, ack, fin or rst; from NODE[:PORT], to NODE[:PORT], flags FA,
        having F, containing TEXT, number 2 (the second that matches), with-timestamp,
        without-timestamp, at WIRE. Example: hold data from client to server:80"""
        self._rule(line, lambda wire, p: wire.hold(p.match, p.count))

    def do_copy(self, line: str) -> None:
        """copy WHICH [count 2]: the wire lets the next segment of that kind pass and keeps a copy,
        until you release it (see: help hold).
        """
        self._rule(line, lambda wire, p: wire.copy(p.match, p.count))

    def do_duplicate(self, line: str) -> None:
        """duplicate WHICH [after SECONDS] [count 2]: the next segment of that kind arrives twice
        (see: help hold).
        """
        self._rule(line, lambda wire, p: wire.duplicate(p.match, p.after_s, p.count))

    def do_delay(self, line: str) -> None:
        """delay WHICH after SECONDS [count 2|all]: the next segment of that kind arrives so much
        later (see: help hold).
        """
        self._rule(line, lambda wire, p: wire.delay(p.match, p.after_s, p.count))

    def do_drop(self, line: str) -> None:
        """drop WHICH [count 2|all]: the next segment of that kind is lost (see: help hold)."""
        self._rule(line, lambda wire, p: wire.drop(p.match, p.count))

    def do_reorder(self, line: str) -> None:
        """reorder WHICH [behind 1]: the next segment of that kind is overtaken by so many later
        ones (see: help hold).
        """
        self._rule(line, lambda wire, p: wire.reorder(p.match, p.behind, p.count))

    def do_held(self, _line: str) -> None:
        """held: what the wire has been told to do, and which segments it befell so far."""
        for name, rule in self.rules.items():
            self.say(f"{name}  {rule.words}  {'armed' if rule.armed else 'done'}")
            for segment in rule.segments:
                self.say(f"      {segment.at_s:9.4f}  {segment.words(self._names())}")

    def do_release(self, line: str) -> None:
        """release RULE [without-timestamp]: let go of what a hold or a copy has (r1, r2, ...). A
        second time: duplicates.
        """
        name, _, more = line.partition(" ")
        rule = self._ruled(name)
        if not hasattr(rule, "release"):
            raise UsageError(
                f"{name} {rule.words}: there is nothing to release", "a hold or a copy can be released", "bad-phrase"
            )
        if not rule.segments:
            self.say(f"{name} has nothing yet")
        rule.release(without_timestamp=more == "without-timestamp")

    def do_stop(self, line: str) -> None:
        """stop RULE: it does no more; what is held stays held."""
        self._ruled(line).stop()

    def do_inject(self, line: str) -> None:
        """inject NUMBER|END [flags FA] [seq +200] [ack +1] [tsval -1] [tsecr +0] [bytes 400 | text
        WORD] [without-timestamp] [into NODE] Put a segment onto the link, as if it had come all the
        way: like number NUMBER of the segments that have crossed, or the next one that END (c1, s1,
        ...) could send. seq, ack, tsval and tsecr are relative to that; to 0 where that has no
        timestamp."""
        words = line.split()
        if not words:
            self._usage(self.do_inject)
        wanted = phrases.parse_injection(words[1:], self.lab.network.nodes, self._help(self.do_inject))
        like = self._like(words[0])
        wire = self._wire("")
        made = wire.craft(like=like, **wanted.fields(like))
        wire.inject(made, into=self.lab.network[wanted.into].interfaces[0] if wanted.into else None)

    # What there is.

    def do_timewait(self, line: str) -> None:
        """timewait [NODE]: the sockets in TIME_WAIT, and what is left of their time."""
        rows = [
            (
                node,
                f"{entry.local}:{entry.local_port}",
                f"{entry.remote}:{entry.remote_port}",
                f"{entry.remaining_s:.1f} s",
            )
            for node in self._nodes(line)
            for entry in self.lab.time_wait(node)
        ]
        self._table(("node", "local", "remote", "left"), rows)

    def do_sockets(self, line: str) -> None:
        """sockets [NODE]: all TCP sockets, in whatever state, with the bytes that have not been
        acknowledged.
        """
        rows = [
            (
                node,
                entry.state,
                f"{entry.local}:{entry.local_port}",
                f"{entry.remote}:{entry.remote_port}",
                f"{0 if entry.state == 'LISTEN' else entry.send_queue} bytes",
            )
            for node in self._nodes(line)
            for entry in tcp_sockets.sockets(self.lab.network[node])
        ]
        self._table(("node", "state", "local", "remote", "unacknowledged"), rows)

    def do_counters(self, line: str) -> None:
        """counters [NODE]: the kernel's TCP counters that have moved since the beginning."""
        rows = [(node, name, str(by)) for node in self._nodes(line) for name, by in self.lab.all_moved()[node].items()]
        self._table(
            ("node", "counter", "moved by"), [row for row in rows if not row[1].startswith(("Ip", "Icmp", "Udp"))]
        )

    def do_settings(self, line: str) -> None:
        """settings: what the nodes have been set to. settings NODE: all of its sysctls that the lab
        pins. settings NODE|all KEY=VALUE ...: change it, for connections from now on. settings KEY:
        what that setting is."""
        words = line.split()
        if not words:
            self._table(
                ("node", "settings"), [(name, settings.words()) for name, settings in self.lab.settings.items()]
            )
        elif words[0] in setting_names():
            self.say(f"{words[0]}: {describe(words[0])}")
        elif len(words) == 1:
            self._nodes(words[0])
            self._table(
                ("sysctl", "value"),
                [(name, str(value)) for name, value in self.running.tunings[words[0]].effective.items()],
            )
        else:
            if bad := [word for word in words[1:] if "=" not in word]:
                raise UsageError(
                    f"{bad[0]} is not of the form KEY=VALUE",
                    f"the settings are: {', '.join(setting_names())}",
                    "bad-setting",
                )
            pairs = (word.split("=", 1) for word in words[1:])
            change = Settings(**{key: parse_setting(key, value) for key, value in pairs})
            for node in self._nodes("" if words[0] == "all" else words[0]):
                self.running.retune(node, change.over(self.lab.settings[node]))

    # Time and words.

    def do_sleep(self, line: str) -> None:
        """sleep SECONDS: let time pass; the wire and all applications go on."""
        self.lab.sleep(self._seconds(line, self.do_sleep))

    def do_step(self, line: str) -> None:
        """step WORDS: say what you are about to do; the words stand in the ladder."""
        if not line:
            self._usage(self.do_step)
        self.lab.step(line)

    # What the verbs share.

    def sightings(self) -> list[Sighting]:
        """What the capture has by now, with the packets' bytes as far as it keeps them."""
        from twlab.results.pcapng_reading import read_capture

        packets = self.running.capture.save()
        return [
            replace(seen, segment=replace(seen.segment, raw=packets[seen.number - 1].frame[_ETHERNET_BYTES:]))
            for seen in read_capture(self.running.capture.path)
        ]

    def _rule(self, line: str, arm: Callable[[Wire, phrases.Phrase], Rule]) -> None:
        phrase = phrases.parse(line, self.addresses)
        wire = self._wire(phrase.at)
        crossing.check(phrase, wire.node)
        name = f"r{len(self.rules) + 1}"
        self.rules[name] = arm(wire, phrase)
        self.say(f"{name}: armed")

    def _ruled(self, name: str) -> Rule:
        if name not in self.rules:
            raise UsageError(
                f"there is no rule called {name!r}",
                f"there are: {', '.join(self.rules) or 'none yet; see help hold'}",
                "bad-phrase",
            )
        return self.rules[name]

    def _end(self, name: str, verb: Callable[[str], None]) -> Connection:
        return self.ends[name] if name else self._usage(verb)

    def _seconds(self, text: str, verb: Callable[[str], None]) -> float:
        try:
            seconds = real(text)
        except ValueError:
            self._usage(verb)
        if not 0 <= seconds < math.inf:
            raise UsageError(
                f"{text} is no length of time: a number of seconds, 0 or more, is wanted",
                self._help(verb),
                "bad-phrase",
            )
        return seconds

    def _wire(self, name: str) -> Wire:
        known = self.lab.wires
        if not known or (name and name not in known):
            raise UsageError(
                f"there is no wire {name}".rstrip(),
                f"the wires of this topology: {', '.join(known) or 'none'}",
                "bad-phrase",
            )
        return known[name] if name else self.lab.wire

    def _nodes(self, name: str) -> Iterable[str]:
        if name:
            self.lab[name]
        return [name] if name else list(self.lab.network.nodes)

    def _names(self) -> dict[str, str]:
        return {address: name for name, known in self.addresses.items() for address in known}

    def _show(self, segment: Segment) -> None:
        assert self._numbering
        self._numbering.learn(segment.flow, segment)
        self.say(
            f"  {segment.at_s:9.4f}  {segment.words(self._names(), self._numbering.origins(segment.flow, segment))}"
        )

    def _like(self, text: str) -> Segment:
        """The segment that an injected one is to be like, at the wire; for an end of a connection,
        with the next sequence number.
        """
        from twlab.report.ladder.transits import next_segment, transits

        ways = transits(self.sightings(), self.lab.network.nodes)
        if is_whole(text.lstrip("#")):
            number = int(text.lstrip("#"))
            if not 1 <= number <= len(ways):
                raise UsageError(
                    f"there is no segment number {number}", f"{len(ways)} have crossed; see: segments", "bad-phrase"
                )
            return ways[number - 1].sightings[-1].segment
        following = next_segment(self.ends[text].flow, ways)
        if following is None:
            raise UsageError(f"nothing of {text} has crossed the wire", "see: segments", "bad-phrase")
        return following

    def _table(self, heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
        if not rows:
            self.say("none")
            return
        widths = [max(len(row[at]) for row in [heads, *rows]) for at in range(len(heads))]
        for row in (heads, *rows):
            self.say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

    def _help(self, verb: Callable[[str], None]) -> str:
        return " ".join((verb.__doc__ or "").split())

    def _usage(self, verb: Callable[[str], None]) -> Any:
        raise UsageError(f"wrong arguments for {verb.__name__.removeprefix('do_')}", self._help(verb), "bad-phrase")


def _port(text: str) -> int:
    if not (is_whole(text) and 1 <= int(text) <= 65535):
        raise UsageError(f"{text!r} is no port", "a port is a number from 1 to 65535", "bad-phrase")
    return int(text)
