"""The command `twlab compare`."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from twlab.catalogue import load_scenarios
from twlab.commands.console import DefaultsOption, err, find, kept, out, own_command
from twlab.commands.progress import bar
from twlab.errors import NOTHING_KEPT, Interrupted, UsageError
from twlab.report.text import facts
from twlab.results import files
from twlab.world import PINNED, check_world

if TYPE_CHECKING:
    from twlab.studies.compare.measure import Comparison

_COLOURS = {"change": "bold red", "undecided": "yellow", "chance": "dim"}


def compare(
    names: Annotated[
        list[str] | None, typer.Argument(help="Scenarios, or paths of files that hold one.", metavar="[NAME ...]")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Compare every scenario.")] = False,
    kernels: Annotated[
        list[str] | None,
        typer.Option(
            "--kernel", metavar="SERIES|PATH", help="A lab kernel (may be repeated). Default: each that is built."
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="host: with this machine's own kernel as one more column.")] = "",
    defaults: DefaultsOption = PINNED.name,
    seed: Annotated[int, typer.Option(help="Of the first runs, for everything random.")] = 1,
    seeds: Annotated[
        int, typer.Option(min=0, max=20, help="The most repetitions, to decide between change and chance.")
    ] = 20,
    jobs: Annotated[int, typer.Option(min=1, help="Lab kernels side by side.")] = os.cpu_count() or 1,
    folder: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="For compare.json, report.html and the runs that differ.")
    ] = Path("compare"),
    as_json: Annotated[bool, typer.Option("--json", help="Print compare.json.")] = False,
) -> None:
    """Run scenarios on several kernels, and tell what differs between them.

    With --defaults, on one kernel: in the pinned world, and with its own defaults.

    Every fact that differs is shown, and decided: an arm is repeated with other seeds until it is
    clear whether the difference is a change or chance. After an interrupt, the same command goes
    on where it was. Exit status: 0 every arm has the same verdict on all; 1 one has not.
    """
    from twlab.report.html import page
    from twlab.studies.compare.columns import HOST, columns, worlds
    from twlab.studies.compare.measure import FILE, Comparison

    if all_ == bool(names):
        raise UsageError("name the scenarios to compare, or say --all", "see them with: twlab list", "nothing-to-run")
    if engine not in ("", "guest", HOST):
        raise UsageError(f"there is no engine called {engine!r}", "the engines are: guest, host", "no-such-engine")
    wanted = list(load_scenarios().items()) if all_ else [find(name) for name in dict.fromkeys(names or [])]
    world, of_host = check_world(defaults), engine == HOST
    compared = columns(kernels or [], of_host) if world == PINNED.name else worlds(kernels or [], of_host, world)
    files.check_folder(folder)
    comparison = Comparison(folder, wanted, compared, seed=seed, seeds=seeds, command=own_command())
    made = _measure(comparison, jobs)
    written = page.write([folder / FILE], folder / "report.html")
    kept.append(folder)
    if as_json:
        print(json.dumps(made, indent=1))
    else:
        _show(made)
        out.print(f"{folder / FILE}, {written.path}", markup=False)
    if made["verdicts"]:
        raise typer.Exit(1)


def _measure(comparison: Comparison, jobs: int) -> dict[str, Any]:
    """Measure what is not yet, with a bar; return all of it.

    Raises:
        Interrupted: by Ctrl-C; it says what is kept.
    """
    try:
        with bar(err, "compare") as advance:

            def on_arm(column: str, arm: str) -> None:
                done, total = comparison.done, comparison.total
                where = f"{done} of {total}" if done <= total else f"repetition {done - total}"
                advance(min(1.0, done / total), f"{where}  {column}  {arm}")

            return comparison.measure(jobs=jobs, on_arm=on_arm)
    except KeyboardInterrupt as stop:
        count, path = len(comparison.progress.done), comparison.progress.path
        what = f"kept in {path}: {count} boots' runs; the same command goes on from there"
        raise Interrupted(what if count else NOTHING_KEPT) from stop


def _show(made: Mapping[str, Any]) -> None:
    """Print a row for each fact that differs, then the verdicts that do, and the counts."""
    names = [column["name"] for column in made["columns"]]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("scenario", "arm", "fact", *names, "decided", "with other seeds"):
        table.add_column(escape(heading), overflow="fold")
    before = ("", "")
    for row in made["rows"]:
        here = (row["scenario"], row["arm"])
        shown = ("", "") if here == before else here
        values = ["nothing" if row[name] is None else facts.word(row[name]) for name in names]
        seen = facts.line(row["seen"]) if row["decided"] != "undecided" else ""
        decided = f"[{_COLOURS[row['decided']]}]{escape('; '.join(row['steps']))}[/]"
        table.add_row(*map(escape, (*shown, row["fact"], *values)), decided, escape(seen))
        before = here
    if made["rows"]:
        out.print(table, soft_wrap=False)
    for verdict in made["verdicts"]:
        words = ", ".join(f"{name} {verdict[name]}" for name in names if name in verdict)
        out.print(
            f"[bold red]verdict differs[/]: {escape(verdict['scenario'])} {escape(verdict['arm'])}: {escape(words)}"
        )
    counts = Counter(row["decided"] for row in made["rows"])
    differing = {(row["scenario"], row["arm"]) for row in made["rows"]}
    kinds = ", ".join(f"{counts[kind]} {kind}" for kind in _COLOURS if counts[kind]) or "none"
    out.print(
        f"\n{made['compared']['scenarios']} scenarios, {made['compared']['arms']} arms on {', '.join(names)}: "
        f"{made['compared']['arms'] - len(differing)} arms alike; facts that differ: {kinds}; "
        f"verdicts that differ: {len(made['verdicts'])}",
        markup=False,
    )
