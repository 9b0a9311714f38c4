"""The commands `twlab show` and `twlab report`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from twlab.commands.console import complain, out
from twlab.results.result import read_result


def show(
    runs: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Runs' folders, or their result.json; of a folder of runs, the newest. Default: runs.",
            metavar="[RUN ...]",
        ),
    ] = None,
    arm: Annotated[
        list[str] | None, typer.Option(help="Show this arm only, or the arms of this role (may be repeated).")
    ] = None,
    all_: Annotated[
        bool, typer.Option("--all", help="Show every run of a folder of runs, not the newest alone.")
    ] = False,
    unfold: Annotated[bool, typer.Option("--unfold", help="Show every segment of the bulk.")] = False,
    width: Annotated[
        int, typer.Option(min=0, help="Columns to draw in. Default: the terminal's, or 160 in a pipe.")
    ] = 0,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print a JSON object: verdict, arms, and what was done in each; an array for several runs.",
        ),
    ] = False,
) -> None:
    """Show finished runs: their verdicts, and the ladder of each arm.

    No lab runs. Without a name, the newest run is shown.
    """
    from twlab.report.text.show import found, lines, shown_arms

    meant = found(runs or [], every=all_)
    if as_json:
        shown = []
        for run in meant:
            result = read_result(run)
            shown.append(result.shown(run if run.is_dir() else run.parent, shown_arms(result, arm or [])))
        print(json.dumps(shown[0] if len(shown) == 1 else shown, indent=1))
        return
    encoding = sys.stdout.encoding or "ascii"
    colour = out.is_terminal and not out.no_color
    for number, run in enumerate(meant):
        if not runs or len(meant) > 1 or run not in runs:
            print(f"{chr(10) if number else ''}{run}\n")
        for line in lines(run, arm or [], unfold=unfold, width=width or out.width, colour=colour, encoding=encoding):
            print(line)


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of runs, or of such folders; sweep.json, ceiling.json, alternatives.json, compare.json, "
            "observe.json, atlas.json.",
            metavar="RUN ...",
        ),
    ],
    out_file: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write.")] = Path("report.html"),
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Make one HTML file over runs and sweeps: verdicts, ladders, plots, maps.

    Reading it needs no network. Exit status: 0 all runs are in it; 1 some could not be read, and
    the report names them; 2 none could be read.
    """
    from twlab.report.html import page

    made = page.write(runs, out_file)
    for error in made.unreadable:
        complain(str(error))
    out.print(str(made.path), markup=False)
    if open_:
        import webbrowser

        webbrowser.open(made.path.resolve().as_uri())
    if made.unreadable:
        raise typer.Exit(1)
