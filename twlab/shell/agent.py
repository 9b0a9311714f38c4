"""The agent of ``twlab shell``: runs one session inside an engine.

It sets up the lab, runs the shell on it, and writes the evidence.

A request: ``{"topology", "settings": of all nodes, "on": node to its own, "seed", "folder",
"result": the fields of `twlab.results.result.Result` that are known beforehand, "lines": [[at_s or
null, text, interrupted at_s or null], ...], or null where a person types, "terminal": a file
descriptor, or the path of a console, "size": its rows and columns, "environment": {"TERM": ...},
"world": what nodes start from, see `twlab.world.World.as_dict`}``.

Events besides ``end``: ``output`` with a text, where the request has lines; ``ended`` with
``failed``, whether a line could not be carried out; and ``error`` with an error as a result keeps
it, where there was no lab.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twlab.engines.guest.console import take_over
from twlab.errors import LabError
from twlab.lab.assembly import assemble
from twlab.network import load_topology
from twlab.results.evidence import ArmEvidence
from twlab.results.result import ArmPrediction, ArmResult, Result
from twlab.run.arm import as_dict
from twlab.run.provenance import kernel
from twlab.settings import Settings
from twlab.shell.mininet_verbs import Paper
from twlab.shell.prompt import Prompt
from twlab.shell.repl import Shell
from twlab.world import World

if TYPE_CHECKING:
    from twlab.report.ladder.ladder import Ladder

ARM = "session"
Emit = Callable[[dict[str, Any]], None]


def carry_out(request: dict[str, Any], emit: Emit) -> None:
    """Run the session to its end."""
    try:
        if request["lines"] is not None:
            emit({"event": "ended", "failed": _session(request, _Events(emit))})
        elif isinstance(request["terminal"], int):
            _sit_down(request["terminal"], request)
            emit({"event": "ended", "failed": _session(request, sys.stdout)})
        else:
            _in_a_child(request, emit)
    except LabError as error:
        emit({"event": "error", "error": as_dict(error)})
    emit({"event": "end"})


def _session(request: dict[str, Any], paper: Paper) -> bool:
    """Run the shell on a lab. Return whether a line failed."""
    folder = Path(request["folder"])
    prompt = Prompt() if request["lines"] is None else None
    topology = load_topology(request["topology"])
    settings = Settings(**request["settings"])
    wanted = {name: Settings(**request.get("on", {}).get(name, {})).over(settings) for name in topology.nodes()}
    world = World.from_dict(request.get("world", {}))
    with assemble(topology, wanted, folder / f"{ARM}.pcapng", seed=str(request["seed"]), world=world) as running:

        def draw_ladder() -> Ladder:
            from twlab.report.ladder import ladder

            running.capture.save()
            _write(request, running.gather(), shell)
            return ladder.read(folder, ARM)

        virtual = request["result"]["engine"] == "guest" and prompt is None
        shell = Shell(running, paper, draw_ladder, virtual=virtual)
        ends = running.lab.transcript.subscribe(shell.hear)
        if prompt:
            shell.talk(prompt)
            prompt.close()
        else:
            shell.carry_out(request["lines"])
        ends()
    _write(request, running.evidence, shell)
    return shell.failed


def _write(request: dict[str, Any], evidence: ArmEvidence, shell: Shell) -> None:
    typed = {"lines": shell.lines, "interrupts": shell.interrupts}
    given = {**typed, "settings": request["settings"], "on": request.get("on", {})}
    session = ArmResult.of(ArmPrediction(ARM), replace(evidence, given=given))
    Result(**request["result"], kernel=kernel(), arms={ARM: session}).write(Path(request["folder"]))


class _Events(io.TextIOBase):
    """A text stream that sends events, so that a slow reader costs the lab no time."""

    def __init__(self, emit: Emit):
        self._emit = emit

    def write(self, text: str) -> int:
        self._emit({"event": "output", "text": text})
        return len(text)


def _sit_down(terminal: int, request: dict[str, Any]) -> None:
    """Make the terminal standard input, output and error."""
    for target in (0, 1, 2):
        os.dup2(terminal, target)
    os.environ.update(request["environment"])
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115


def _in_a_child(request: dict[str, Any], emit: Emit) -> None:
    """Run the session in a child, inside the lab kernel.

    The console becomes the child's controlling terminal, so that Ctrl-C is a signal.
    """
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _sit_down(take_over(request["terminal"], request["size"]), request)
            emit({"event": "ended", "failed": _session(request, sys.stdout)})
            status = 0
        except LabError as error:
            emit({"event": "error", "error": as_dict(error)})
            status = 0
        finally:
            sys.stdout.flush()
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    if ended:
        emit(
            {
                "event": "error",
                "error": {
                    "slug": "lab-ended-early",
                    "message": "the shell in the lab kernel died",
                    "remedy": "see the log",
                },
            }
        )
