"""The command `twlab ceiling`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from twlab.commands.console import KernelOption, SchedulerOption, err, kept, out, own_command
from twlab.commands.progress import bar
from twlab.engines import use_kernel
from twlab.errors import Interrupted, UsageError
from twlab.ports import LINUX_PORTS, PortChoice, port_range
from twlab.studies.ceiling.cases import LINUX_TIME_WAIT_S, Case, cases

if TYPE_CHECKING:
    from twlab.studies.ceiling.fill import CeilingTable


def ceiling(
    time_wait: Annotated[
        list[float] | None, typer.Option(metavar="SECONDS", help="Measure this length of TIME_WAIT (may be repeated).")
    ] = None,
    ports: Annotated[
        list[str] | None, typer.Option(metavar="LOW-HIGH", help="... with this range of ports (may be repeated).")
    ] = None,
    origins: Annotated[int, typer.Option(min=1, max=64, help="... to so many destinations in turn.")] = 1,
    choice: Annotated[
        PortChoice | None, typer.Option(help="... with ports chosen so. Default: range.", show_default=False)
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Lab kernels side by side.")] = os.cpu_count() or 1,
    kernel: KernelOption = "",
    seed: Annotated[int, typer.Option(help="For everything random.")] = 1,
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="For ceiling.json, .csv, .png and .svg.")] = Path(
        "ceiling"
    ),
    as_json: Annotated[bool, typer.Option("--json", help="Print ceiling.json.")] = False,
    scheduler: SchedulerOption = "",
) -> None:
    """Measure how many connections a second ports and TIME_WAIT allow a proxy.

    It runs in lab kernels. Without --time-wait and --ports, the whole table: TIME_WAIT of 60, 30,
    15 and 10 s with 28,232, 32,768 and 64,512 ports, several destinations, and the other end
    closing first. 60 s are measured twice: as Linux's own constant, which ends up to 2 s late, and
    kept to the tick.
    After an interrupt, the same command goes on where it was.
    """
    from twlab.report.figures.ceiling_plot import draw
    from twlab.studies.ceiling.fill import CeilingTable
    from twlab.studies.progress import lab_kernel

    use_kernel(kernel)
    wanted = _wanted(time_wait or (), ports or (), origins, choice)
    made = CeilingTable(folder, wanted, seed=seed, command=own_command(), kernel=lab_kernel(scheduler))
    _fill(made, wanted, jobs, scheduler)
    files = list(made.files)
    kept.extend(files)
    table = made.rows
    if table:  # else it is not known which kernel it would have been
        files += draw(table, f"lab kernel, Linux {made.kernel.split()[0]}", folder / "ceiling")
    if as_json:
        print((folder / "ceiling.json").read_text(), end="")
    else:
        out.print(_table(table), soft_wrap=False)
    for file in files:
        (err if as_json else out).print(str(file), markup=False)
    if len(table) < len(wanted):
        raise typer.Exit(1)


def _wanted(lengths_s: Sequence[float], ports: Sequence[str], origins: int, choice: PortChoice | None) -> list[Case]:
    """Return the cases that the options name; without any, those of the whole table."""
    if not (lengths_s or ports or origins > 1 or choice):
        return cases()
    return [
        case
        for low, high in [port_range(text) for text in ports] or [LINUX_PORTS]
        for length_s in lengths_s or [LINUX_TIME_WAIT_S]
        for case in _cases(length_s, low, high, origins, choice or PortChoice.RANGE)
    ]


def _fill(made: CeilingTable, wanted: Sequence[Case], jobs: int, scheduler: str) -> None:
    """Measure the cases that the table lacks, with a bar.

    Raises:
        Interrupted: by Ctrl-C; it says what is kept.
    """
    count = len(made.rows)
    # What a case takes is nearly in proportion to its four-tuples.
    total = sum(case.ports * case.origins for case in wanted)
    done = sum(row["ports"] * row["origins"] for row in made.rows)
    try:
        with bar(err, "ceiling", done / total) as advance:

            def on_case(case: Case, event: dict[str, Any]) -> None:
                nonlocal count, done
                outcome = _measured(event["row"]) if "row" in event else event["error"]
                count, done = count + 1, done + case.ports * case.origins
                advance(done / total, f"{count}/{len(wanted)}  {case.name}: {outcome}")

            made.fill(jobs=jobs, on_case=on_case, scheduler=scheduler)
    except KeyboardInterrupt as stop:
        state = f"{len(made.rows)} of {len(wanted)} cases"
        more = "; the same command goes on from there" if made.rows else ""
        raise Interrupted(f"kept in {made.files[0]}: {state}{more}") from stop


def _cases(time_wait_s: float, low: int, high: int, origins: int, choice: PortChoice) -> list[Case]:
    """Return one case; for Linux's own length also its constant, which comes first."""
    if not 0.1 <= time_wait_s <= 3600:
        raise UsageError(f"--time-wait {time_wait_s:g} is not possible: 0.1 to 3600 s", slug="bad-setting")
    group = "origins" if origins > 1 else "ports" if choice is PortChoice.RANGE else "choice"
    case = Case(group=group, time_wait_s=time_wait_s, port_low=low, port_high=high, origins=origins, choice=choice)
    return [*([replace(case, group="constant", to_the_tick=False)] if time_wait_s == LINUX_TIME_WAIT_S else []), case]


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    asks = any(row["mail_per_s"] for row in rows)
    columns = [
        "TIME_WAIT, ports",
        "docs/findings/answers.md asks",
        "ports / TIME_WAIT",
        "measured: none fails",
        "one fails",
        "off",
        "what the application sees",
    ]
    for column in columns if asks else [columns[0], *columns[2:]]:
        table.add_column(
            column, justify="left" if column.startswith(("TIME_WAIT", "what")) else "right", overflow="fold"
        )
    for row in rows:
        sustained, failing = row["sustained_per_s"], row["failing_per_s"]
        exact = "" if row["group"] == "closer" else f"{row['exact_per_s']:,.1f}"
        table.add_row(
            row["name"],
            *([f"~{row['mail_per_s']:,}" if row["mail_per_s"] else ""] if asks else []),
            exact,
            ("" if failing else "at least ") + f"{sustained:,.1f}" if sustained else "",
            f"{failing:,.1f}" if failing else "never",
            f"{sustained / row['exact_per_s'] - 1:+.1%}" if exact and sustained else "",
            _seen(row),
        )
    return table


def _seen(row: dict[str, Any]) -> str:
    """Say what fails, and when, e.g. ``connect EADDRNOTAVAIL; at 500/s in second 57``.

    The rate is the one that docs/findings/answers.md asks about.
    """
    if not row["error"]:
        return f"nothing; the other end has up to {row['server_in_time_wait']:,} sockets in TIME_WAIT"
    first = row["trials"][0]
    return row["error"] + (
        f"; at {first['rate_per_s']:,.0f}/s in second {int(first['first_failure_s']) + 1}" if row["mail_per_s"] else ""
    )


def _measured(row: dict[str, Any]) -> str:
    failing = f"fails at {row['failing_per_s']:,.1f}" if row["failing_per_s"] else "and none fails"
    return f"{row['sustained_per_s'] or 0:,.1f} a second, {failing}"
