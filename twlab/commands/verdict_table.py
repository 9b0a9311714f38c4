"""The verdict table of a run, and the story of each arm that was not as predicted."""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from twlab.commands.console import out
from twlab.report.text import facts
from twlab.results.result import Result
from twlab.run.runner import Finished
from twlab.scenario import Verdict

_COLOURS = {Verdict.SUPPORTED: "green", Verdict.REFUTED: "red", Verdict.INCONCLUSIVE: "yellow"}


def show_table(finished: list[Finished]) -> None:
    """Print the verdict table, and below it the arms that were not as predicted."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("scenario", "verdict", "arm", "predicted", "observed"):
        table.add_column(column, overflow="fold")
    for run in finished:
        first = True
        for name, arm in run.result.arms.items():
            mark = "[green]✓[/green]" if arm.ok else "[yellow]?[/yellow]" if arm.ok is None else "[red]✗[/red]"
            observed = (
                {key: arm.observed.get(key, "nothing") for key in arm.predicted or _single(arm.observed)}
                if arm.observed
                else {}
            )
            verdict = run.result.verdict
            table.add_row(
                run.result.scenario if first else "",
                f"[{_COLOURS[verdict]}]{verdict}[/]" if first else "",
                f"{mark} {escape(name)}",
                escape(facts.line(arm.predicted)) or f"[yellow]{escape(arm.no_prediction)}[/yellow]",
                escape(facts.line(observed)) or f"[yellow]{escape((arm.error or {}).get('slug', ''))}[/yellow]",
            )
            first = False
    out.print(table, soft_wrap=False)
    for run in finished:
        _show_tables(run.result)
    for run in finished:
        _tell_story(run.result)
    grounds = {run.result.ground for run in finished if run.result.kernel}
    out.print(f"\n{'; '.join(sorted(grounds))}", markup=False)
    for line in {_not_carried(run.result) for run in finished if run.result.not_carried}:
        out.print(line, markup=False)
    for run in finished:
        out.print(str(run.folder), markup=False)


def _not_carried(result: Result) -> str:
    """Return the line that says which sysctls of this machine are not those of the lab."""
    return f"not carried over from this machine, see result.json: {', '.join(result.not_carried)}"


def _show_tables(result: Result) -> None:
    from twlab.report.text import tables

    for made in tables.of(result):
        out.print()
        for line in tables.text(made):
            out.print(line, markup=False, highlight=False, no_wrap=True, crop=False, overflow="ignore", soft_wrap=True)


def _single(facts: dict[str, Any]) -> list[str]:
    """The facts that are one value each."""
    return [name for name, value in facts.items() if not isinstance(value, list | dict)]


def _tell_story(result: Result) -> None:
    """Print, for each arm that was not as predicted, its numbered story and faults."""
    from twlab.results.transcript import Entry, story

    for name, arm in result.arms.items():
        if arm.ok or (arm.no_prediction and not arm.error):
            continue
        out.print(f"\n[bold]{escape(result.scenario)}, arm {escape(name)}[/bold]")
        for line in story(Entry(**entry) for entry in arm.transcript):
            out.print(f"  {escape(line)}")
        for mismatch in arm.mismatches:
            out.print(f"  [red]✗ {escape(mismatch)}[/red]")
        if arm.error:
            out.print(f"  [yellow]? {escape(arm.error['message'])} \\[{arm.error['slug']}][/yellow]")
            if arm.error.get("where"):
                out.print(f"    at {escape(arm.error['where'])}")
            if arm.error["remedy"]:
                out.print(f"    remedy: {escape(arm.error['remedy'])}")
