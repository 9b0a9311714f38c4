"""The command `twlab diagnose`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twlab.commands.console import err, out
from twlab.errors import UsageError

if TYPE_CHECKING:
    from twlab.diagnose.diagnosis import Diagnosis
    from twlab.diagnose.snapshot import Namespace

_SETTINGS = {  # sysctl to the setting of a scenario
    "tcp_timestamps": "timestamps",
    "tcp_tw_reuse": "tw_reuse",
    "tcp_tw_reuse_delay": "tw_reuse_delay_ms",
    "tcp_rfc1337": "rfc1337",
    "tcp_fin_timeout": "fin_timeout_s",
}


def diagnose(
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT ...]", help="Files, folders, a sos report, or - for standard input."),
    ] = None,
    collect: Annotated[
        bool, typer.Option("--collect", help="Print the command line that collects what is needed, and stop.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Keep looking, on one screen, until interrupted.")] = False,
    every_s: Annotated[
        float, typer.Option("--every", min=0, max=3600, help="Seconds between two looks at the counters.")
    ] = 1.0,
    metrics: Annotated[
        Path | None,
        typer.Option("--prometheus", metavar="FILE", help="Write FILE for the node exporter's textfile collector."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    show_me: Annotated[
        bool, typer.Option("--show-me", help="Run, in the lab, the scenarios that show what was found.")
    ] = False,
    engine: Annotated[str, typer.Option(help="Of --show-me: guest or host, as for twlab run.")] = "",
    out_dir: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where --show-me makes its runs' folders.")
    ] = Path("runs"),
) -> None:
    """Say what holds the ports of this machine, or of another: TIME_WAIT or not.

    Reads only: nothing is changed or sent, and no kernel module is loaded. Root is not needed. Exit
    status: 0 diagnosed, with any result; 2 wrong usage, or a text that cannot be read; 130
    interrupted.
    """
    if collect:
        from twlab.diagnose.collect import command

        print(command())
        return
    if watch and (texts or as_json or show_me):
        raise UsageError(
            "--watch looks at this machine, on the screen", "leave out the texts, --json and --show-me", "bad-diagnosis"
        )
    if watch:
        from twlab.diagnose.watch import watch as keep_looking

        keep_looking(out, every_s or 1.0, metrics)
        return
    made = _diagnosis(texts or [], every_s)
    if metrics:
        from twlab.diagnose import prometheus

        prometheus.write(made, metrics)
    if as_json:
        print(json.dumps(made.as_dict(), indent=1))
    else:
        from twlab.diagnose.screen import render

        out.print(render(made, out.width), soft_wrap=False)
    if show_me:
        show_in_lab(made.shows, _own_settings(made.parts[0].place), engine, out_dir, as_json)


def _diagnosis(texts: list[str], every_s: float) -> Diagnosis:
    from twlab.diagnose import live
    from twlab.diagnose.diagnosis import diagnose as judge
    from twlab.diagnose.texts.assemble import snapshot
    from twlab.diagnose.texts.reading import read
    from twlab.loop import Loop

    if not texts:
        return judge(live.read(every_s, Loop().sleep))
    read_from = "standard input" if texts == ["-"] else ", ".join(Path(text).name or text for text in texts)
    made = judge(snapshot(read(texts), read_from))
    if not any(
        part.place.socket_source
        or part.place.counters
        or part.place.settings
        or part.place.gateway
        or part.place.balanced
        or part.place.missing
        for part in made.parts
    ):
        raise UsageError(
            f"nothing in {read_from} is known",
            "collect it with the line that `twlab diagnose --collect` prints",
            "bad-diagnosis",
        )
    return made


def show_in_lab(
    shows: tuple[str, ...], settings: Sequence[tuple[str, int]], engine: str, out_dir: Path, as_json: bool
) -> None:
    """Run the scenarios of `shows`, e.g. ``port-exhaustion --arm above``.

    Args:
        settings: names and values that apply where the scenario leaves them open.
        as_json: standard output is for JSON: print no table there.
    """
    from twlab.commands.console import find
    from twlab.commands.progress import Progress
    from twlab.commands.verdict_table import show_table
    from twlab.engines import choose
    from twlab.run import runner

    if not shows:
        (err if as_json else out).print("\nnothing was found that a scenario shows")
    for words in map(shlex.split, shows):
        source, scenario = find(words[0])
        arms = ["control", *words[2::2]] if len(words) > 1 else []
        fixed = {name for arm in scenario.arms.values() for name in arm.settings.over(scenario.base).as_dict()}
        sets = [f"{name}={value}" for name, value in settings if name not in fixed]
        err.print(
            "twlab run " + shlex.join([*words, *(word for pair in sets for word in ("--set", pair))]), markup=False
        )
        order = runner.Order(scenarios=[(source, scenario)], arms=arms, sets=sets, seed=1, out=out_dir)
        with Progress(err, len(arms) or len(scenario.arms)) as progress:
            finished = runner.run(order, choose(engine, agent=runner.AGENT), progress.on_event)
        if not as_json:
            show_table(finished)


def _own_settings(place: Namespace) -> list[tuple[str, int]]:
    found = ((name, place.number(sysctl)) for sysctl, name in _SETTINGS.items())
    return [(name, value) for name, value in found if value is not None]
