"""A program of the atlas that runs in a lab, between a visitor and an origin."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from twlab.atlas import programs, trace
from twlab.atlas.origin import Manner, Origin
from twlab.atlas.postgres import PostgresOrigin
from twlab.atlas.subject import PORT, Place, Subject
from twlab.atlas.visitor import Visitor
from twlab.errors import LabError
from twlab.lab.assembly import assemble_unrecorded
from twlab.lab.lab import Lab
from twlab.linux import tcp_sockets
from twlab.network import load_topology
from twlab.segment import Segment, match
from twlab.settings import Settings
from twlab.traffic.program import Program, find

_ORDERS = Path("/run/orders")
_PATIENCE_S = 20.0
_READY_S = 60.0


class Station:
    """A running program, and all that is around it.

    Attributes:
        subject, lab, origin, visitor: of it.
        page: the last answer that a visitor got, or the last line that a client printed.
        traced: whether its system calls are seen.
    """

    def __init__(self, subject: Subject, lab: Lab, origin: Origin, *, source: bool):
        self.subject, self.lab, self.origin = subject, lab, origin
        self.page = ""
        self.traced = _straces()
        self._node = lab.network["proxy"]
        server = lab.network["server"].address()
        own = self._node.address()
        self.place = Place(origin=server, source=own if source else "", own=own, orders=str(_ORDERS))
        self.visitor = Visitor(lab, self._node, self.place, subject.speaks)
        self._texts: list[str] = []
        self._program: Program | None = None
        self._orders = -1

    def start(self) -> None:
        """Start what runs for more than one request, and wait until it is ready.

        Raises:
            CapabilityError, ScenarioError: as `twlab.proxies.load_test.under_load`.
        """
        subject = self.subject
        if subject.runs == "once":
            return
        if subject.runs == "orders":
            with suppress(FileNotFoundError):
                _ORDERS.unlink()
            os.mkfifo(_ORDERS)
            self._orders = os.open(_ORDERS, os.O_RDWR | os.O_NONBLOCK)
        self._program = self._run()
        if subject.runs == "proxy":
            self._program.wait_until(self._listens, _READY_S)
            self.lab.sleep(1.0)

    def stop(self) -> None:
        """End the program."""
        self.visitor.close()
        if self._program:
            self._texts.append(self._program.read("trace"))
            self._program.stop()
            self._program = None
        if self._orders >= 0:
            os.close(self._orders)
            _ORDERS.unlink()
            self._orders = -1

    def ask(self, method: str = "GET", *, keep: bool = False) -> str:
        """Have the program ask the origin once; return the status or what was seen.

        Args:
            keep: a visitor keeps its connection to a proxy for the next call.
        """
        if self.subject.runs == "proxy":
            answer = self.visitor.ask(method, keep=keep)
            self.page = self.visitor.page.decode("latin-1")
            return answer
        return self._order(method) if self.subject.runs == "orders" else self._once()

    def trace(self) -> str:
        """Return what strace has written up to now."""
        return "".join([*self._texts, self._program.read("trace") if self._program else ""])

    def log(self) -> str:
        """Return what the program has printed or logged."""
        if not self._program:
            return self.page
        return self._program.read(self.subject.log) + self._program.read("output") * (self.subject.log != "output")

    @contextmanager
    def watched(self) -> Iterator[Sequence[Segment]]:
        """Keep every segment between program and origin for the block."""
        rule = self.lab.wire.watch(match())
        try:
            yield rule.segments
        finally:
            rule.stop()

    def _run(self) -> Program:
        subject = self.subject
        if lack := programs.missing(subject):
            raise lack
        words = [programs.path(subject), *subject.arguments(self.place)]
        if self.traced:
            # As a grandchild (-D): the process is the program's own, and ends when it is told to.
            tracer = [find("strace"), "-D", "-f", "-qq", "-o", "{folder}/trace", "-e", f"trace={trace.CALLS}"]
            words = [*tracer, "-e", "signal=none", *words]
        files = dict(subject.files(self.place))
        if subject.prepares:
            prepared = Program(self._node, self.lab.loop, ["/bin/sh", "-c", subject.prepares + "; exec sleep 0"], files)
            self.lab.wait_until(lambda: prepared.status is not None, _READY_S)
            files |= {path.name: path.read_text() for path in prepared.folder.glob("*.pem")}
            prepared.stop()
        return Program(self._node, self.lab.loop, words, files)

    def _listens(self) -> bool:
        return any(s.state == "LISTEN" and s.local_port == PORT for s in tcp_sockets.sockets(self._node))

    def _order(self, method: str) -> str:
        program = self._program
        assert program
        before = len(program.read("output").splitlines())
        os.write(self._orders, f"{method}\n".encode())

        def answered() -> bool:
            return program.status is not None or program.read("output").count("\n") > before

        if not self.lab.wait_until(answered, _PATIENCE_S):
            return "timeout"
        lines = program.read("output").splitlines()[before:]
        self.page = lines[0] if lines else ""
        return self.page.split(" ", 1)[0] if lines else f"ended with status {program.status}"

    def _once(self) -> str:
        program = self._run()
        ended = self.lab.wait_until(lambda: program.status is not None, _PATIENCE_S)
        self.page = program.read("output")
        status = program.status
        self._texts.append(program.read("trace"))
        program.stop()
        if not ended:
            return "timeout"
        if status == 0 and not self.subject.succeeds.search(self.page):
            return "failed, exit 0"
        return "200" if status == 0 else self.subject.statuses.get(status or 0, f"exit {status}")


@contextmanager
def station(
    subject: Subject, *, source: bool = False, manner: Manner = "keeps", seed: str = "1", **proxy: Any
) -> Iterator[Station]:
    """Run `subject` in a lab of its own, for the block.

    Args:
        source: a source address is named.
        manner: the origin's.
        proxy: settings of the node that it runs on.
    """
    topology = load_topology("proxy")
    base = {"tw_reuse": 0, **proxy}
    settings = {name: Settings(**(base if name == "proxy" else {})) for name in ("client", "proxy", "server")}
    with assemble_unrecorded(topology, settings, seed=seed) as lab:
        served_by = PostgresOrigin if subject.speaks == "postgres" else Origin
        origin = served_by(lab.network["server"], lab.loop, manner)
        lab.closing.callback(origin.close)
        made = Station(subject, lab, origin, source=source)
        lab.closing.callback(made.stop)
        made.start()
        yield made


def _straces() -> bool:
    try:
        find("strace")
    except LabError:
        return False
    return True
