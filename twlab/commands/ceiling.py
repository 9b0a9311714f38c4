"""ceiling"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from twlab.commands.console import KernelOption, err, kept, out
from twlab.commands.progress import bar
from twlab.engines import use_kernel
from twlab.engines.guest.engine import built_kernel
from twlab.errors import Interrupted, UsageError
from twlab.numerals import is_whole
from twlab.ports import LINUX_PORTS, PortChoice
from twlab.studies.ceiling.cases import LINUX_TIME_WAIT_S, Case, cases, write


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
) -> None:
    """How many connections a second: measure the ceiling that ports and TIME_WAIT put on a proxy,
    in lab kernels.

    Without --time-wait and --ports, the whole table: TIME_WAIT of 60, 30, 15 and 10 s with 28,232,
    32,768 and 64,512 ports, several destinations, and the other end closing first. 60 s are
    measured twice: as Linux's own constant, which ends up to 2 s late, and kept to the tick.
    """
    from twlab.studies.ceiling.search import measure_all

    use_kernel(kernel)
    wanted = cases()
    if time_wait or ports or origins > 1 or choice:
        ranges = [_range(text) for text in ports or ()] or [LINUX_PORTS]
        lengths = time_wait or [LINUX_TIME_WAIT_S]
        wanted = [
            case
            for low, high in ranges
            for length_s in lengths
            for case in _cases(length_s, low, high, origins, choice or PortChoice.RANGE)
        ]
    built_kernel()
    rows: dict[int, dict[str, Any]] = {}
    about: dict[str, Any] = {
        "kernel": "",
        "engine": "guest",
        "command": shlex.join(["twlab", *sys.argv[1:]]),
        "seed": seed,
    }
    files = write(folder, [], **about)
    total, done = (
        sum(case.ports * case.origins for case in wanted),
        0,
    )  # what a case takes is nearly in proportion to its four-tuples
    try:
        with bar(err, "ceiling") as advance:
            for count, (index, event) in enumerate(measure_all(wanted, seed=seed, jobs=jobs), 1):
                case = wanted[index]
                if "row" in event:
                    rows[index], about["kernel"] = event["row"], event["kernel"]
                told = _measured(event["row"]) if "row" in event else event["error"]
                done += case.ports * case.origins
                advance(done / total, f"{count}/{len(wanted)}  {case.name}: {told}")
                write(folder, [rows[index] for index in sorted(rows)], **about)
    except KeyboardInterrupt as stop:
        raise Interrupted(f"kept in {files[0]}: {len(rows)} of {len(wanted)} cases") from stop
    kept.extend(files)
    table = [rows[index] for index in sorted(rows)]
    if any(row["group"] == "ports" and row["sustained_per_s"] for row in table):
        from twlab.report.figures.ceiling_plot import draw

        files += draw(table, f"lab kernel, Linux {about['kernel'].split()[0]}", folder / "ceiling")
    if as_json:
        print((folder / "ceiling.json").read_text(), end="")
    else:
        out.print(_table(table), soft_wrap=False)
    for file in files:
        (err if as_json else out).print(str(file), markup=False)
    if len(rows) < len(wanted):
        raise typer.Exit(1)


def _cases(time_wait_s: float, low: int, high: int, origins: int, choice: PortChoice) -> list[Case]:
    """One, or where it is the length that Linux has also its constant, as it comes: that one first."""
    if not 0.1 <= time_wait_s <= 3600:
        raise UsageError(f"--time-wait {time_wait_s:g} is not possible: 0.1 to 3600 s", slug="bad-setting")
    group = "origins" if origins > 1 else "ports" if choice is PortChoice.RANGE else "choice"
    case = Case(group=group, time_wait_s=time_wait_s, port_low=low, port_high=high, origins=origins, choice=choice)
    return [*([replace(case, group="constant", to_the_tick=False)] if time_wait_s == LINUX_TIME_WAIT_S else []), case]


def _range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    if not (is_whole(low) and is_whole(high) and 1 <= int(low) <= int(high) <= 65535):
        raise UsageError(f"--ports {text} is no range of ports", "e.g. --ports 1024-65535", "bad-setting")
    return int(low), int(high)


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
    """``connect EADDRNOTAVAIL; at 500/s in second 57``: what fails, and when it begins at the rate
    that docs/findings/answers.md asks about.
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
