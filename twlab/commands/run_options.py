"""The arguments and options of `twlab run`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

JOBS = os.cpu_count() or 1  # by default

NamesArgument = Annotated[
    list[str] | None, typer.Argument(help="Scenarios, or paths of files that hold one.", metavar="[NAME ...]")
]
AllOption = Annotated[bool, typer.Option("--all", help="Run every scenario.")]
ArmOption = Annotated[
    list[str] | None, typer.Option(help="Run this arm only, or the arms of this role (may be repeated).")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="[NODE:]KEY=VALUE",
        help="Change a setting in every arm but the control, on all nodes or on NODE.",
    ),
]
EngineOption = Annotated[
    str,
    typer.Option(
        help="guest: the lab kernel, in virtual time; host: this machine's kernel, in real time. "
        "Default: guest on x86-64."
    ),
]
SeedOption = Annotated[int, typer.Option(help="For everything random.")]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the runs' folders are made.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON array, an element a scenario.")]
JobsOption = Annotated[int, typer.Option(min=1, help="Lab kernels side by side, for many arms. Results are the same.")]
RepeatOption = Annotated[
    int,
    typer.Option("--repeat", min=1, help="So often, with seeds that count up; tell how often each verdict came."),
]
ReportOption = Annotated[
    bool | None,
    typer.Option("--report/--no-report", help="Make DIR/report.html. Default: after several scenarios."),
]
