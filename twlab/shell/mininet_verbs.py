"""Mininet's verbs as the lab has them.

Mininet's command line prints what is wrong with a line and goes on. Here that is an error, so that
a script in which a line could not be done ends with 1. The only importer of `mininet.cli`,
`mininet.net` and `mininet.log`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from mininet import cli
from mininet.log import lg
from mininet.net import Mininet

from twlab.errors import UsageError
from twlab.network import Network, Node
from twlab.shell import endless
from twlab.shell.prompt import Prompt
from twlab.shell.verb_base import VerbBase

Paper = TextIO | io.TextIOBase
Line = tuple[float | None, str, float | None]  # when it begins, the text, when it is interrupted


class Net(Mininet):
    """A network of the lab as Mininet's command line knows one."""

    def __init__(self, network: Network):
        self.topo = network.topology
        self.hosts = list(network)
        self.switches: list[Node] = []
        self.controllers: list[Node] = []
        self.terms: list[Any] = []
        self.nameToNode = network.nodes
        self.links = list(dict.fromkeys(interface.link for node in network for interface in node.interfaces))


def print_on(paper: Paper) -> None:
    """Have Mininet print on `paper`; where it would print an error, raise ValueError."""
    lg.handlers[0].setStream(paper)
    lg.filters[:] = [_Refusal()]


class _Refusal(logging.Filter):
    """Raises what Mininet logs as an error."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            raise ValueError(record.getMessage().strip())
        return True


class MininetVerbs(VerbBase, cli.CLI):
    """Those of Mininet's verbs that do something else in the lab."""

    carry_out: Callable[[Sequence[Line]], bool]
    _prompt: Prompt | None
    _virtual: bool
    _stops: bool  # the line under way will be interrupted
    _sources: list[Path]  # the files whose lines are being carried out

    def do_source(self, line: str) -> bool:
        """source FILE: carry out the lines of a file, as if they were typed."""
        if not line:
            self._usage(self.do_source)
        path = Path(line).resolve()
        if path in self._sources:
            raise UsageError(f"{line} would carry out itself", "remove the line from it", "bad-phrase")
        lines: list[Line] = [(None, text, None) for text in path.read_text(encoding="utf-8").splitlines()]
        self._sources.append(path)
        try:
            return self.carry_out(lines)
        finally:
            self._sources.pop()

    def do_iperf(self, line: str) -> None:
        """iperf NODE SERVER: the bandwidth between two nodes, measured for five seconds of real
        time.
        """
        self._check_ends(f"iperf {line}".strip())
        super().do_iperf(line)

    def do_iperfudp(self, line: str) -> None:
        """iperfudp BANDWIDTH NODE SERVER: as iperf, by UDP."""
        self._check_ends(f"iperf {line}".strip())
        super().do_iperfudp(line)

    def do_link(self, line: str) -> None:
        """link NODE NODE up|down: bring the link between two nodes up or down."""
        super().do_link(line)

    def do_sh(self, line: str) -> None:
        """sh COMMAND: run a command outside of all nodes."""
        with self._plain_interrupt():
            done = subprocess.run(
                line, shell=True, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
            )
        self.say((done.stdout + done.stderr).rstrip("\n"))

    def do_py(self, line: str) -> None:
        """py EXPRESSION: evaluate Python; nodes by their names, and lab and net."""
        with self._plain_interrupt():
            result = eval(line, vars(cli), self.getLocals())
        if result:
            self.say(result if isinstance(result, str) else repr(result))

    def do_px(self, line: str) -> None:
        """px STATEMENT: execute Python; nodes by their names, and lab and net."""
        with self._plain_interrupt():
            exec(line, vars(cli), self.getLocals())

    def _check_ends(self, command: str) -> None:
        endless.check(command, virtual=self._virtual, typed=bool(self._prompt) or self._stops)

    @contextlib.contextmanager
    def _plain_interrupt(self) -> Iterator[None]:
        """Have Ctrl-C interrupt what runs: Python that was typed, or a program."""
        if not self._prompt:
            yield
            return
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
