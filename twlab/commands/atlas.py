"""The command `twlab atlas`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from twlab.commands.console import KernelOption, err, kept, out, own_command
from twlab.commands.progress import bar
from twlab.engines import use_kernel
from twlab.results import files

if TYPE_CHECKING:
    from twlab.atlas.columns import Column


def atlas(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Programs, e.g. nginx or nginx-two; default: all.", metavar="[PROGRAM ...]"),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="COLUMN", help="Measure this column (may be repeated).")
    ] = None,
    engine: Annotated[str, typer.Option(help="guest or host.", show_default="guest on x86-64")] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Labs side by side.")] = os.cpu_count() or 1,
    kernel: KernelOption = "",
    seed: Annotated[int, typer.Option(help="For everything random.")] = 1,
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="For atlas.json, .csv and .md.")] = Path("atlas"),
    as_json: Annotated[bool, typer.Option("--json", help="Print atlas.json.")] = False,
) -> None:
    """Measure what installed programs do about ports and TIME_WAIT.

    Each program runs, as installed, between a visitor and an origin. The table says what it calls
    before connect(), who closes first, whether and how long it keeps connections, and what it does
    without a free port. Exit status: 0 what is installed is measured; 1 a cell could not be.
    """
    from twlab.atlas.programs import chosen, missing
    from twlab.atlas.table import chosen_columns, measure, write

    use_kernel(kernel, engine)
    subjects, columns = chosen(names or []), chosen_columns(only or [])
    files.check_folder(folder)
    lacks = [lack for lack in map(missing, subjects) if lack]
    if lacks and len(lacks) == len(subjects):
        raise lacks[0]
    installed = [subject for subject in subjects if not missing(subject)]
    total, count = sum(column.applies(subject) for subject in installed for column in columns), 0
    with bar(err, "atlas") as advance:

        def on_cell(name: str, column: str, text: str) -> None:
            nonlocal count
            count += 1
            advance(count / max(total, 1), f"{count}/{total}  {name} {column}: {text}")

        rows, ran_on = measure(subjects, columns, engine=engine, seed=seed, jobs=jobs, on_cell=on_cell)
    written = write(folder, rows, columns, command=own_command(), seed=seed, **ran_on)
    kept.extend(written)
    if as_json:
        print(written[0].read_text(), end="")
    else:
        _show(rows, columns)
        release = ran_on["kernel"].split(" ")[0] or "not booted"
        out.print(f"\n{ran_on['engine']} engine, Linux {release}; {folder}/atlas.json, .csv, .md", markup=False)
        out.print("a cell alone: twlab atlas PROGRAM --only COLUMN", markup=False)
    if any(row["error"] and row["installed"] for row in rows):
        raise typer.Exit(1)


def _show(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> None:
    """Print the table, and beneath it what could not be measured."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_lines=False)
    for heading in ("program", *(f"{column.name}: {column.heading}" for column in columns)):
        table.add_column(heading, overflow="fold")
    for row in rows:
        cells = [f"{row['name']} {row['version']}", *(row[column.name] for column in columns)]
        table.add_row(*map(escape, cells))
    out.print(table, soft_wrap=False)
    for row in rows:
        if row["error"]:
            out.print(f"{row['name']}: {row['error']}", markup=False)
