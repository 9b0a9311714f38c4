"""The commands `twlab list`, `twlab explain` and `twlab run`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from twlab.catalogue import find_scenario, load_scenarios
from twlab.commands import run_options as options
from twlab.commands.console import DefaultsOption, KernelOption, err, find, kept, out, paged
from twlab.commands.progress import Progress, bar
from twlab.commands.verdict_table import show_table
from twlab.engines import choose, use_kernel
from twlab.engines.protocol import Engine
from twlab.errors import CapabilityError, UsageError
from twlab.observation import plain
from twlab.report.text import facts
from twlab.run import runner
from twlab.run.repeat import repeat
from twlab.run.runner import Finished, Order
from twlab.scenario import Scenario, Verdict
from twlab.settings import describe
from twlab.world import check_world


def list_scenarios(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False) -> None:
    """List every scenario with its claim."""
    scenarios = load_scenarios().values()
    if as_json:
        listed = [
            {"scenario": s.name, "hypothesis": s.hypothesis, "topology": s.topology_in(), "arms": list(s.arms)}
            for s in scenarios
        ]
        print(json.dumps(listed, indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("scenario", "arms", "claim"):
        table.add_column(column, overflow="fold")
    for s in scenarios:
        table.add_row(s.name, str(len(s.arms)), escape(s.hypothesis))
    out.print(table, soft_wrap=False)


def explain(
    name: Annotated[str, typer.Argument(help="A scenario, or the path of a file that holds one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print a scenario as a page: claim, network, arms and predictions.

    No lab runs. At a terminal, lines are as wide as the terminal, and your pager shows a page that
    is longer than the screen.
    """
    s = find_scenario(name)
    if as_json:
        print(json.dumps(s.as_dict(), indent=1))
        return
    with paged():
        _explain(s)


def _explain(s: Scenario) -> None:
    from twlab.network import load_topology

    tell = partial(out.print, soft_wrap=not out.is_terminal)
    out.print(f"[bold]{s.name}[/bold]\n")
    for paragraph in (s.hypothesis, *s.explanation.split("\n\n"), ""):
        drawn = paragraph.startswith("    ") or "\n    " in paragraph
        out.print(escape(paragraph if drawn else " ".join(paragraph.split())) + "\n" * bool(paragraph), soft_wrap=drawn)
    out.print(f"[bold]network[/bold]  {escape(s.topology_in())}\n{escape(_drawing(load_topology(s.topology_in())))}\n")
    for arm, values in s.arms.items():
        tell(f"[bold]{s.roles[arm]}[/bold]" + (f"  {escape(arm)}" if arm != s.roles[arm] else ""))
        tell(f"  settings   {escape(values.settings.over(s.base).words())}")
        for release, settings in s.older(arm).items():
            tell(f"  before {release}  {escape(settings.over(s.base).words())}")
        for node, settings in values.on.items():
            tell(f"  on {escape(node)}   {escape(settings.words())}")
        for key, value in values.given.items():
            tell(f"  given      {key}={escape(plain(value))}")
        tell(f"  predicted  {escape(facts.line(values.expect.as_dict()))}")
    used = {key for values in s.arms.values() for key in values.settings.over(s.base).as_dict()}
    tell("\n[bold]settings[/bold]")
    for key in sorted(used):
        tell(f"  {key}: {escape(describe(key))}")
    if s.parameters:
        tell(
            "[bold]arguments of the steps[/bold]\n  "
            + escape(", ".join(f"{key}={plain(value)}" for key, value in s.parameters.items()))
        )
    tell(f"\n[bold]reads[/bold]  {escape(s.reads)}")


def run(
    names: options.NamesArgument = None,
    all_: options.AllOption = False,
    arm: options.ArmOption = None,
    set_: options.SetOption = None,
    engine: options.EngineOption = "",
    kernel: KernelOption = "",
    defaults: DefaultsOption = "pinned",
    seed: options.SeedOption = 1,
    out_dir: options.OutOption = Path("runs"),
    as_json: options.JsonOption = False,
    jobs: options.JobsOption = options.JOBS,
    times: options.RepeatOption = 1,
    with_report: options.ReportOption = None,
) -> None:
    """Run scenarios and say what they show.

    Exit status: 0 all supported; 1 something refuted or inconclusive; 2 wrong usage; 3 this machine
    cannot; 130 interrupted.
    """
    if all_ == bool(names):
        raise UsageError("name the scenarios to run, or say --all", "see them with: twlab list", "nothing-to-run")
    use_kernel(kernel, engine)
    wanted = (
        [(name, scenario) for name, scenario in load_scenarios().items()]
        if all_
        else [find(name) for name in names or []]
    )
    order = Order(
        scenarios=wanted,
        arms=arm or (),
        sets=set_ or (),
        seed=seed,
        out=out_dir,
        kernel=kernel,
        boots=jobs,
        world=check_world(defaults),
    )
    runner.check(order)
    if times > 1:
        _repeat(order, choose(engine, agent=runner.AGENT), times, as_json, bool(with_report))
        return
    arms = sum(len(scenario.chosen(order.arms)) for _, scenario in wanted)
    with Progress(err, arms) as progress:
        finished = runner.run(order, choose(engine, agent=runner.AGENT), progress.on_event)
    kept.extend(run.folder for run in finished)
    if as_json:
        print(json.dumps([run.result.summary(run.folder) for run in finished], indent=1))
    else:
        show_table(finished)
    if with_report or (with_report is None and len(finished) > 1):
        _report([run.folder for run in finished], out_dir, as_json)
    if status := _exit_status(finished):
        raise typer.Exit(status)


def _exit_status(finished: Sequence[Finished]) -> int:
    """Return what a run exits with.

    Where not one arm could be carried out because of the machine, the machine is what it speaks of.
    """
    if all(run.result.verdict is Verdict.SUPPORTED for run in finished):
        return 0
    kinds = {(arm.error or {}).get("kind", "") for run in finished for arm in run.result.arms.values()}
    return CapabilityError.exit_status if kinds == {"CapabilityError"} else 1


def _report(folders: Sequence[Path], out_dir: Path, as_json: bool) -> None:
    from twlab.report.html import page

    made = page.write(folders, out_dir / "report.html")
    (err if as_json else out).print(f"report: {made.path}", markup=False)


def _repeat(order: Order, engine: Engine, times: int, as_json: bool, with_report: bool) -> None:
    """Run `order` `times` times, and print how often each verdict came.

    The report has the runs that are kept. Exits with 1 unless all were SUPPORTED.
    """
    with bar(err, f"{times} times") as advance:

        def on_round(number: int) -> None:
            advance(number / times, f"{number} done")

        found = repeat(order, engine, times, lambda event: None, on_round)
    kept.extend(folder for counts in found for folder in counts.kept)
    if as_json:
        print(json.dumps([counts.as_dict() for counts in found], indent=1))
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("scenario", *Verdict, "kept"):
            table.add_column(column, overflow="fold")
        for counts in found:
            table.add_row(
                counts.scenario,
                *(str(counts.verdicts[verdict] or "") for verdict in Verdict),
                escape("\n".join(map(str, counts.kept))),
            )
        out.print(table, soft_wrap=False)
    if with_report:
        _report([folder for counts in found for folder in counts.kept], order.out, as_json)
    if not all(counts.steady for counts in found):
        raise typer.Exit(1)


def _drawing(topology: Any) -> str:
    """The drawing in a topology's docstring: its indented lines."""
    lines = (type(topology).__doc__ or sys.modules[type(topology).__module__].__doc__ or "").splitlines()
    return "\n".join(line for line in lines if line.startswith("    ")) or "    (no drawing)"
