"""The command `twlab shell`."""

from __future__ import annotations

import math
import os
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer

from twlab.commands.console import DefaultsOption, KernelOption, absolute_topology, err
from twlab.commands.streams import has_input
from twlab.engines.protocol import Engine
from twlab.errors import NOTHING_KEPT, CapabilityError, EngineError, Interrupted, LabError, UsageError
from twlab.overrides import Overrides
from twlab.results.result import FILE, read_result
from twlab.world import PINNED

Lines = list[tuple[float | None, str, float | None]]  # when it begins, the text, when it is interrupted
_CLAIM = "A session at the shell: it claims nothing, and shows what was done."


def shell(
    topology: Annotated[
        str, typer.Argument(help="A topology with its options, e.g. nat,clients=2, or the path of a file.")
    ] = "",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="[NODE:]KEY=VALUE", help="A setting of all nodes, or of NODE.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="guest: the lab kernel; host: this machine's kernel. Default: guest on x86-64.")
    ] = "",
    kernel: KernelOption = "",
    defaults: DefaultsOption = "",
    seed: Annotated[int | None, typer.Option(help="For everything random. Default: 1, or the session's.")] = None,
    out_dir: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the session's folder is made.")] = Path(
        "runs"
    ),
    replay: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Do again what was done in that session, at the same times.")
    ] = None,
) -> None:
    """Open Mininet's command line on a live topology, with twlab's verbs.

    The verbs are for the wire, TIME_WAIT and settings. The session is recorded. Lines are typed, or
    read from standard input where that is no terminal. Then, and with --replay, the lab kernel's
    time is virtual.

    Exit status: 0; 1 a line that was read could not be done; 2 wrong usage; 3 this machine cannot.
    """
    from twlab.engines import choose, use_kernel
    from twlab.network import load_topology
    from twlab.results.folder import new_folder
    from twlab.run.provenance import describe_network, versions
    from twlab.run.worlds import find_world

    overrides = Overrides.parse(list(set_ or ()), [])
    asked = _replayed(replay, topology, engine) if replay else _Asked(topology, engine)
    if not asked.topology:
        raise UsageError("no topology is named", "for example: twlab shell pair", "no-such-topology")
    use_kernel(kernel, asked.engine)
    topology = absolute_topology(asked.topology)
    overrides.check_nodes(load_topology(topology).nodes(), topology)
    world = find_world(defaults or asked.world)
    where = choose(asked.engine, agent="twlab.shell.agent")
    seed = asked.seed if seed is None else seed
    if asked.kernel not in ("", where.release):
        err.print(f"the session ran on Linux {asked.kernel}, the replay on {where.release}: see --kernel", markup=False)
    lines = _piped() if asked.lines is None else asked.lines
    folder = new_folder(out_dir, f"shell-{topology.partition(',')[0].rpartition('/')[2].removesuffix('.py')}")
    words = ["twlab", "shell", *(["--kernel", kernel] if kernel else []), "--seed", str(seed), "--replay", str(folder)]
    result = {
        "scenario": "shell", "hypothesis": _CLAIM, "reads": "", "topology": topology, "engine": where.name,
        "seed": seed, "command": shlex.join(words), "versions": versions(), "network": describe_network(topology),
        "world": world.name, "not_carried": dict(world.left),
    }  # fmt: skip
    request = {
        "topology": topology, **asked.changed(overrides), "seed": seed, "folder": str(folder.resolve()),
        "result": result, "lines": lines, "terminal": -1, "world": world.as_dict(),
    }  # fmt: skip
    session = _carry_out(where, request, folder)
    err.print(f"kept in {folder}; see it with: twlab show {folder}", markup=False)
    if lines is not None and session.failed:
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Asked:
    """What a session begins with.

    Attributes:
        engine: its name; empty: the default one.
        settings, on: of all nodes, and of single ones, before what ``--set`` changes.
        lines: to carry out, each with its times; None: they are typed or piped.
        world: the name of what the nodes start from.
        seed: for everything random, where ``--seed`` names none.
        kernel: release of the replayed session's kernel; empty where nothing is replayed.
    """

    topology: str
    engine: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    on: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    lines: Lines | None = None
    world: str = PINNED.name
    seed: int = 1
    kernel: str = ""

    def changed(self, overrides: Overrides) -> dict[str, Any]:
        """Return ``settings`` and ``on`` of the request: these, and over them `overrides`."""
        own = {node: values.as_dict() for node, values in overrides.on.items()}
        on = {node: {**self.on.get(node, {}), **own.get(node, {})} for node in {*self.on, *own}}
        return {"settings": {**self.settings, **overrides.settings.as_dict()}, "on": on}


def _replayed(run: Path, topology: str, engine: str) -> _Asked:
    """Return what the session in the folder `run` began with, and its lines.

    Raises:
        UsageError: a topology is named, too, or there is no such session (``bad-replay``).
    """
    if topology:
        raise UsageError("a session is replayed on its own topology", "twlab shell --replay RUN", "bad-replay")
    result = read_result(run)
    given = next(iter(result.arms.values())).given if result.arms else {}
    if "lines" not in given:
        raise UsageError(f"{run} is no session of the shell", "name a folder that twlab shell has made", "bad-replay")
    try:
        stops = {int(number): float(at_s) for number, at_s in given.get("interrupts", [])}
        lines: Lines = [
            (None if at_s is None else float(at_s), str(line), stops.get(number))
            for number, (at_s, line) in enumerate(given["lines"])
        ]
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"{run} is damaged: its lines are no pairs of time and text", "name another session", "bad-replay"
        ) from error
    settings, on = dict(given.get("settings") or {}), dict(given.get("on") or {})
    release = "".join(result.kernel.split()[:1])
    return _Asked(result.topology, engine or result.engine, settings, on, lines, result.world, result.seed, release)


def _piped() -> Lines | None:
    """Return the lines on standard input; None where they are typed at a terminal.

    Raises:
        UsageError: it is closed (``no-input``).
    """
    if not has_input():
        raise UsageError(
            "standard input is closed, so there are no lines to carry out",
            "for example: twlab shell pair < lines.txt",
            "no-input",
        )
    return None if os.isatty(0) and os.isatty(1) else [(None, line.rstrip("\n"), None) for line in sys.stdin]


def _carry_out(where: Engine, request: dict[str, Any], folder: Path) -> _Session:
    """Run the session to its end.

    A folder in which no result came to be is removed after Ctrl-C: there is nothing to show.

    Raises:
        Interrupted: by Ctrl-C.
        LabError: there was no lab.
    """
    session = _Session(request["lines"] is not None)
    interrupted = False
    try:
        if request["lines"] is None:
            from twlab.engines.terminal import on_terminal

            err.print(f"{request['topology']}, on the {where.name} engine ...", markup=False)
            on_terminal(where.name, "twlab.shell.agent", request, folder, session.on_event)
        else:
            where.run(request, folder, session.on_event, math.inf)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()
    if interrupted:
        if (folder / FILE).exists():
            raise Interrupted(f"kept in {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        raise Interrupted(NOTHING_KEPT)
    if session.error:
        raise session.error
    return session


class _Session:
    """The outcome of a session, gathered from its events.

    Args:
        says_quiet: report a long silence, too; at a terminal a silence is normal.
    """

    def __init__(self, says_quiet: bool) -> None:
        self._says_quiet = says_quiet
        self.failed = False
        self.error: LabError | None = None

    def on_event(self, event: dict[str, Any]) -> None:
        if event["event"] == "output":
            sys.stdout.write(event["text"])
            sys.stdout.flush()
        elif event["event"] == "quiet" and self._says_quiet:
            err.print(f"nothing for {event['real_s']:g} s of real time: {event['text']}; Ctrl-C ends it", markup=False)
        elif event["event"] == "ended":
            self.failed = event["failed"]
        elif event["event"] == "error":
            kinds = {kind.__name__: kind for kind in (UsageError, CapabilityError)}
            error = event["error"]
            self.error = kinds.get(error.get("kind", ""), EngineError)(error["message"], error["remedy"], error["slug"])
