"""All of the shell's own verbs, and those for settings, sockets, time and words.

The others come from `twlab.shell.connection_verbs` and `twlab.shell.wire_verbs`.
`twlab.shell.repl` adds Mininet's.
"""

from __future__ import annotations

from twlab.errors import UsageError
from twlab.linux import tcp_sockets
from twlab.settings import Settings, describe, parse_setting, setting_names
from twlab.shell.connection_verbs import ConnectionVerbs
from twlab.shell.wire_verbs import WireVerbs

GROUPS = {
    "connections": ("listen", "connect", "wait", "send", "read", "close", "reset", "connections"),
    "the wire": (
        *("segments", "hold", "copy", "duplicate", "delay", "drop", "reorder"),
        *("inject", "held", "release", "stop"),
    ),
    "what there is": ("timewait", "sockets", "counters", "settings", "ladder"),
    "time and words": ("sleep", "step"),
}


class Verbs(ConnectionVerbs, WireVerbs):
    """All verbs of the lab."""

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
        """sockets [NODE]: all TCP sockets, in any state, with the bytes that have not been
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

    def do_sleep(self, line: str) -> None:
        """sleep SECONDS: let time pass; the wire and all applications go on."""
        self.lab.sleep(self._seconds(line, self.do_sleep))

    def do_step(self, line: str) -> None:
        """step WORDS: say what you are about to do; the words stand in the ladder."""
        if not line:
            self._usage(self.do_step)
        self.lab.step(line)
