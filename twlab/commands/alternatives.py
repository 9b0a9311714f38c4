"""The command `twlab alternatives`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from twlab.commands.console import KernelOption, SchedulerOption, err, kept, out, own_command
from twlab.commands.progress import bar
from twlab.engines import use_kernel
from twlab.errors import NOTHING_KEPT, Interrupted
from twlab.ports import port_range
from twlab.results import files
from twlab.studies.alternatives.page import harm_text, scaled_text, sustained_text
from twlab.studies.alternatives.table import ArmRun

if TYPE_CHECKING:
    from twlab.studies.alternatives.measure import AlternativesTable

_HARM = ("does_harm", "does_harm_without_timestamps")


def alternatives(
    names: Annotated[
        list[str] | None, typer.Argument(help="Rows of the table; default: all.", metavar="[NAME ...]")
    ] = None,
    judge: Annotated[
        bool, typer.Option(help="Also run the catalogue under each, to see which scenarios do harm.")
    ] = True,
    ports: Annotated[
        str, typer.Option(metavar="LOW-HIGH", help="Measure the rates with this range of ports.")
    ] = "40000-40499",
    kernels: Annotated[int, typer.Option("--jobs", min=1, help="Lab kernels side by side.")] = os.cpu_count() or 1,
    kernel: KernelOption = "",
    seed: Annotated[int, typer.Option(help="For everything random.")] = 1,
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="For alternatives.json, .csv and .md.")] = Path(
        "alternatives"
    ),
    as_json_: Annotated[bool, typer.Option("--json", help="Print alternatives.json.")] = False,
    scheduler: SchedulerOption = "",
) -> None:
    """Measure every way out of running out of ports.

    The table says what each way sustains, and which scenarios do harm under it. All runs are in
    lab kernels. The rates of few ports are scaled to Linux's 28,232; with --ports 32768-60999 they
    are measured, which takes hours. After an interrupt, the same command goes on where it was.
    Exit status: 0 all that this machine can do is measured, as planned; 1 a row is not.
    """
    from twlab.studies.alternatives.measure import AlternativesTable, check_ports, chosen
    from twlab.studies.progress import lab_kernel

    use_kernel(kernel)
    wanted = chosen(names or [])
    check_ports(*(chosen_ports := port_range(ports)))
    files.check_folder(folder)
    table = AlternativesTable(
        folder,
        wanted,
        judged=judge,
        seed=seed,
        command=own_command(),
        kernel=lab_kernel(scheduler),
        ports=chosen_ports,
    )
    text = _measure(table, kernels, scheduler)
    made = json.loads(text)
    rows = made["rows"]
    kept.append(folder)
    if as_json_:
        print(text, end="")
    else:
        _show(rows)
        release = made["kernel"].split(" ")[0] or "not booted"
        out.print(f"\nlab kernel, Linux {release}; {folder}/alternatives.json, .csv, .md", markup=False)
    if any(not row["as_planned"] and "no net." not in (row["error"] or "") for row in rows):
        raise typer.Exit(1)


def _measure(table: AlternativesTable, kernels: int, scheduler: str) -> str:
    """Do the runs that are missing, behind a bar; return the text of alternatives.json."""
    total, count = len(table.runs), len(table.kept())
    try:
        with bar(err, "alternatives", count / total) as advance:

            def on_run(run: ArmRun, outcome: Mapping[str, Any]) -> None:
                nonlocal count
                count += 1
                advance(count / total, f"{count}/{total}  {_line(run, outcome)}")

            return table.measure(kernels=kernels, on_run=on_run, scheduler=scheduler)
    except KeyboardInterrupt as stop:
        state = f"{len(table.kept())} of {total} runs; the same command goes on from there"
        raise Interrupted(f"kept in {table.progress.path}: {state}" if table.kept() else NOTHING_KEPT) from stop


def _line(run: ArmRun, outcome: Mapping[str, Any]) -> str:
    observed = outcome.get("observed")
    under = f" under {run.under[0]}, {'with' if run.under[1] else 'without'} timestamps" if run.under else ""
    facts = (
        " ".join(f"{key}={value}" for key, value in observed.items())
        if observed
        else (outcome.get("error") or {}).get("message", "")
    )
    return f"{run.scenario} {run.arm}{under}: {facts}"


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column, justify in (
        ("way", "left"),
        ("sustained /s", "right"),
        ("of 28,232 ports", "right"),
        ("past it", "left"),
        ("does harm", "left"),
    ):
        made.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    made.add_column("... without timestamps", overflow="fold")
    made.add_column("what to change where", overflow="fold")
    full = rows[0] if rows[0]["name"] == "control" else None
    judged = any(row[key] is not None for row in rows for key in _HARM)
    for row in rows:
        cells = [
            row["name"],
            sustained_text(row),
            scaled_text(row),
            row["fails"] or "",
            *(harm_text(row, full, key) if judged else "not judged" for key in _HARM),
            f"{row['what']}: {row['where']}",
        ]
        made.add_row(*map(escape, cells))
    out.print(made, soft_wrap=False)
