"""The command `twlab doctor`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.markup import escape

from twlab.commands.console import out


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False) -> None:
    """Check what this machine can do, and name a remedy for each lack.

    Exit status: 3 if neither engine can run.
    """
    from dataclasses import asdict

    from twlab.doctor.checks import examine, usable_engines

    findings = examine()
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            mark = (
                "[green]ok[/green]     "
                if finding.ok
                else "[red]missing[/red]"
                if finding.needed_for != "extra"
                else "[yellow]without[/yellow]"
            )
            out.print(f"{mark}  [bold]{escape(finding.name)}[/bold]  {escape(finding.detail)}")
            if not finding.ok:
                out.print(f"           remedy: {escape(finding.remedy)}")
    engines = usable_engines(findings)
    if not as_json:
        out.print(f"\nengines that can run here: {', '.join(engines) or 'none'}")
    if not engines:
        raise typer.Exit(3)
