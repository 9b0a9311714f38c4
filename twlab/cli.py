"""The command line. It prints what the other modules say; results go to standard output, everything else to standard error."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from twlab import runner
from twlab.engines import choose
from twlab.errors import CapabilityError, LabError, UsageError
from twlab.observation import plain
from twlab.progress import Progress
from twlab.result import Result
from twlab.runner import Finished, Order
from twlab.scenario import Overrides, Scenario, Verdict, find_scenario, load_scenarios
from twlab.settings import describe

app = typer.Typer(
    help="Experiments on TCP's TIME_WAIT, on real Linux TCP stacks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
kernel_app = typer.Typer(help="The lab kernel: build it, look at it, boot it.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(kernel_app, name="kernel")

_COLOURS = {Verdict.SUPPORTED: "green", Verdict.REFUTED: "red", Verdict.INCONCLUSIVE: "yellow"}
INTERRUPTED = 130

_PIPED = None if sys.stdout.isatty() else 160  # columns of a table where nobody says how wide the paper is
out = Console(highlight=False, soft_wrap=True, width=_PIPED)
err = Console(stderr=True, highlight=False, soft_wrap=True)


@app.command("list", epilog="Example: twlab list")
def list_scenarios(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False) -> None:
    """What there is to run: every scenario with its claim."""
    scenarios = load_scenarios().values()
    if as_json:
        print(
            json.dumps([{"scenario": s.name, "hypothesis": s.hypothesis, "topology": s.topology, "arms": list(s.arms)} for s in scenarios], indent=1)
        )
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("scenario", "arms", "claim"):
        table.add_column(column, overflow="fold")
    for s in scenarios:
        table.add_row(s.name, str(len(s.arms)), escape(s.hypothesis))
    out.print(table, soft_wrap=False)


@app.command(epilog="Example: twlab explain stale-data")
def explain(name: Annotated[str, typer.Argument(help="A scenario, or the path of a file that holds one.")]) -> None:
    """A scenario as a page: claim, network, arms and what each is predicted to show. Nothing is run."""
    from twlab.network import load_topology

    s = find_scenario(name)
    out.print(f"[bold]{s.name}[/bold]\n\n{escape(s.hypothesis)}\n\n{escape(s.explanation)}\n")
    out.print(f"[bold]network[/bold]  {s.topology}\n{escape(_drawing(load_topology(s.topology)))}\n")
    for arm, values in s.arms.items():
        out.print(f"[bold]{s.roles[arm]}[/bold]" + (f"  {arm}" if arm != s.roles[arm] else ""))
        out.print(f"  settings   {escape(values.settings.over(s.base).words())}")
        for node, settings in values.on.items():
            out.print(f"  on {node}   {escape(settings.words())}")
        for key, value in values.given.items():
            out.print(f"  given      {key}={plain(value)}")
        out.print(f"  predicted  {escape(values.expect.words())}")
    used = {key for values in s.arms.values() for key in values.settings.over(s.base).as_dict()}
    out.print("\n[bold]settings[/bold]")
    for key in sorted(used):
        out.print(f"  {key}: {escape(describe(key))}")
    if s.parameters:
        out.print("[bold]arguments of the steps[/bold]\n  " + ", ".join(f"{key}={plain(value)}" for key, value in s.parameters.items()))
    out.print(f"\n[bold]reads[/bold]  {escape(s.reads)}")


@app.command(epilog="Example: twlab run stale-data --arm treatment --set time_wait_s=0.5")
def run(
    names: Annotated[list[str] | None, typer.Argument(help="Scenarios, or paths of files that hold one.", metavar="[NAME ...]")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Run every scenario.")] = False,
    arm: Annotated[list[str] | None, typer.Option(help="Run this arm only (may be repeated).")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting in every arm but the control (may be repeated).")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="guest: the lab kernel, in virtual time; host: this machine's kernel, in real time. Default: guest on x86-64.")
    ] = "",
    seed: Annotated[int, typer.Option(help="For everything random.")] = 1,
    out_dir: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where the runs' folders are made.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array, an element a scenario.")] = False,
    with_report: Annotated[bool | None, typer.Option("--report/--no-report", help="Make DIR/report.html. Default: after several scenarios.")] = None,
) -> None:
    """Run scenarios and say what they show.

    Exit status: 0 all supported; 1 something refuted or inconclusive; 2 wrong usage; 3 this machine cannot; 130 interrupted.
    """
    if all_ == bool(names):
        raise UsageError("name the scenarios to run, or say --all", "see them with: twlab list", "nothing-to-run")
    wanted = [(name, scenario) for name, scenario in load_scenarios().items()] if all_ else [_find(name) for name in names or []]
    order = Order(scenarios=wanted, arms=arm or (), sets=set_ or (), seed=seed, out=out_dir)
    with Progress(err) as progress:
        finished = runner.run(order, choose(engine), progress.on_event)
    if as_json:
        print(json.dumps([run.result.summary(run.folder) for run in finished], indent=1))
    else:
        _show(finished)
    if with_report or (with_report is None and len(finished) > 1):
        from twlab.report import page

        made = page.write([run.folder for run in finished], out_dir / "report.html")
        (err if as_json else out).print(f"report: {made.path}", markup=False)
    if any(run.result.verdict is not Verdict.SUPPORTED for run in finished):
        # Where not one arm could be carried out because of the machine, the machine is what the exit status speaks of.
        kinds = {(arm.error or {}).get("kind", "") for run in finished for arm in run.result.arms.values()}
        raise typer.Exit(CapabilityError.exit_status if kinds == {"CapabilityError"} else 1)


@app.command(epilog="Example: twlab show runs/20260101-120000-stale-data --arm treatment")
def show(
    run: Annotated[Path, typer.Argument(help="A run's folder, or its result.json.")],
    arm: Annotated[list[str] | None, typer.Option(help="Show this arm only (may be repeated).")] = None,
    unfold: Annotated[bool, typer.Option("--unfold", help="Show every segment of the bulk.")] = False,
    width: Annotated[int, typer.Option(min=0, help="Columns to draw in. Default: the terminal's, or 160 in a pipe.")] = 0,
) -> None:
    """A run again: its verdict, and the ladder of each arm. Nothing is run."""
    from twlab.report.show import lines

    encoding = sys.stdout.encoding or "ascii"
    for line in lines(run, arm or [], unfold=unfold, width=width or out.width, colour=out.is_terminal and not out.no_color, encoding=encoding):
        print(line)


@app.command(epilog="Example: twlab sweep stale-segment --grid time_wait_s=1,5,10 --grid delay_s=0.5,2,20 --out sweep.json")
def sweep(
    name: Annotated[str, typer.Argument(help="A scenario with the arguments delay_s and trials, or the path of a file that holds one.")],
    grid: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE,...", help="An axis of the grid (may be repeated).")] = None,
    trials: Annotated[int, typer.Option(min=1, max=20_000, help="Four-tuples in each cell.")] = 100,
    jobs: Annotated[int, typer.Option(min=1, help="Lab kernels side by side.")] = os.cpu_count() or 1,
    arm: Annotated[str, typer.Option(help="The arm that the grid's settings change.")] = "treatment",
    seed: Annotated[int, typer.Option(help="For everything random.")] = 1,
    file: Annotated[Path, typer.Option("--out", metavar="FILE", help="JSON; CSV beside it. Continued if it exists.")] = Path("sweep.json"),
    scheduler: Annotated[str, typer.Option(metavar="tcp://HOST:PORT", help="Of a Dask cluster, to run on its machines instead.")] = "",
) -> None:
    """How low is safe: run a grid of settings in lab kernels. Interrupt it when you like: the same command goes on where it was."""
    from twlab.report.heatmap import draw
    from twlab.sweep import Table, cells
    from twlab.sweeping import dask_executor, fill, fill_with

    source, found = _find(name)
    if lacking := [key for key in ("delay_s", "trials") if key not in found.parameters]:
        raise UsageError(f"{found.name} cannot be swept: its steps take no {lacking[0]}", "e.g. twlab sweep stale-segment", "not-sweepable")
    if arm not in found.arms:
        raise UsageError(f"{found.name} has no arm called {arm!r}", f"its arms are: {', '.join(found.arms)}", "no-such-arm")
    wanted = cells(grid or ())
    for cell in wanted:
        Overrides.parse(list(cell), [found])
    if not scheduler:
        choose("guest")
    table = Table(found.name, trials, seed)
    path = file.with_suffix(".json")
    table.resume(path)

    def on_cell(cell: tuple[str, ...]) -> None:
        table.write(path)
        outcome = " ".join(f"{key}={value}" for key, value in table.done[cell].items()) if cell in table.done else table.failed[cell]
        err.print(f"{sum(c in table.done for c in wanted)}/{len(wanted)}  {' '.join(cell)}  {outcome}", markup=False)

    if scheduler:
        with dask_executor(scheduler) as executor:
            fill_with(executor, table, source, wanted, parts=jobs, arm=arm, on_cell=on_cell)
    else:
        fill(table, source, wanted, jobs=jobs, arm=arm, on_cell=on_cell)
    table.write(path)
    files = [path, path.with_suffix(".csv")]
    if {"timestamps", "time_wait_s", "delay_s"} == {pair.partition("=")[0] for pair in wanted[0]} and table.done:
        files += draw(table.rows(), f"{found.name}: {trials} trials a cell, lab kernel", path)
    for written in files:
        out.print(str(written))
    if any(cell not in table.done for cell in wanted):
        raise typer.Exit(1)


@app.command(epilog="Example: twlab report runs --open")
def report(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, or folders that hold such folders.", metavar="RUN ...")],
    out_file: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write.")] = Path("report.html"),
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
) -> None:
    """Make one HTML file over runs: verdicts, ladders, plots. It needs no network to be read.

    Exit status: 0 all runs are in it; 1 some could not be read, and the report names them; 2 none could be read.
    """
    from twlab.report import page

    made = page.write(runs, out_file)
    for error in made.unreadable:
        _complain(str(error))
    out.print(str(made.path), markup=False)
    if open_:
        import webbrowser

        webbrowser.open(made.path.resolve().as_uri())
    if made.unreadable:
        raise typer.Exit(1)


@app.command(epilog="Example: twlab doctor")
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False) -> None:
    """What this machine can do, each line with its remedy. Exit status 3 if neither engine can run."""
    from dataclasses import asdict

    from twlab.doctor import examine, usable_engines

    findings = examine()
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        for finding in findings:
            mark = "[green]ok[/green]     " if finding.ok else "[red]missing[/red]" if finding.needed_for != "extra" else "[yellow]without[/yellow]"
            out.print(f"{mark}  [bold]{escape(finding.name)}[/bold]  {escape(finding.detail)}")
            if not finding.ok:
                out.print(f"           remedy: {escape(finding.remedy)}")
    engines = usable_engines(findings)
    if not as_json:
        out.print(f"\nengines that can run here: {', '.join(engines) or 'none'}")
    if not engines:
        raise typer.Exit(3)


@kernel_app.command("build", epilog="Example: twlab kernel build --source ~/linux-6.12")
def kernel_build(
    source: Annotated[Path | None, typer.Option(help="An unpacked kernel tree. Default: the distribution's source package.")] = None,
    version: Annotated[str | None, typer.Option(help="Which of the distribution's source packages, e.g. 6.12.")] = None,
) -> None:
    """Build the lab kernel: user-mode Linux with TIME_WAIT's length and tcp_tw_recycle as sysctls. A second build is a look-up."""
    from twlab.engines import kernel
    from twlab.progress import bar

    with bar(err, "lab kernel") as advance:
        built = kernel.build(source=source, version=version, progress=advance)
    out.print(str(built.path))


@kernel_app.command("info", epilog="Example: twlab kernel info")
def kernel_info(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """What the lab kernel is: version, changes, sysctls, options, size, where from."""
    from twlab.engines import kernel

    facts = kernel.info()
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for key, value in facts.items():
        lines = value if isinstance(value, list) else [value]
        out.print(f"[bold]{key:10}[/bold] {escape(str(lines[0]) if lines else '')}")
        for line in lines[1:]:
            out.print(f"{'':10} {escape(str(line))}")


@kernel_app.command("boot", epilog="Example: twlab kernel boot")
def kernel_boot() -> None:
    """A shell inside the lab kernel, in real time, to look around in."""
    from twlab.engines.shell import shell

    raise typer.Exit(shell())


def main() -> None:
    """Entry point: every error becomes one message and an exit status, never a traceback."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        status = app(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except LabError as error:
        _complain(str(error))
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        _complain("interrupted; finished arms are kept in the runs' folders")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output went away, as in `twlab list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own: an unknown option, a missing argument
            _complain(f"{error.format_message()}\n  remedy: see twlab --help")
            sys.exit(2)
        _complain(
            f"{type(error).__name__}: {error} [internal-error]\n  remedy: this is a fault of twlab; set TWLAB_DEBUG=1 for the details and report it"
        )
        if os.environ.get("TWLAB_DEBUG"):
            raise
        sys.exit(1)


def _complain(text: str) -> None:
    err.print(f"[bold red]twlab:[/bold red] {escape(text)}")


def _find(name: str) -> tuple[str, Scenario]:
    source = str(Path(name).resolve()) if name.partition(":")[0].endswith(".py") else name
    return source, find_scenario(source)


def _drawing(topology: Any) -> str:
    """The drawing in a topology's docstring: its indented lines."""
    lines = (type(topology).__doc__ or sys.modules[type(topology).__module__].__doc__ or "").splitlines()
    return "\n".join(line for line in lines if line.startswith("    ")) or "    (no drawing)"


def _show(finished: list[Finished]) -> None:
    """The verdict table, and beneath it what went otherwise than predicted."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("scenario", "verdict", "arm", "predicted", "observed"):
        table.add_column(column, overflow="fold")
    for run in finished:
        first = True
        for name, arm in run.result.arms.items():
            mark = "[green]✓[/green]" if arm.ok else "[yellow]?[/yellow]" if arm.ok is None else "[red]✗[/red]"
            observed = {key: arm.observed.get(key, "nothing") for key in arm.predicted} if arm.observed else {}
            verdict = run.result.verdict
            table.add_row(
                run.result.scenario if first else "",
                f"[{_COLOURS[verdict]}]{verdict}[/]" if first else "",
                f"{mark} {name}",
                escape(_facts(arm.predicted)),
                escape(_facts(observed)) or f"[yellow]{(arm.error or {}).get('slug', '')}[/yellow]",
            )
            first = False
    out.print(table, soft_wrap=False)
    for run in finished:
        _tell_story(run.result)
    kernels = {f"{run.result.engine} engine, Linux {run.result.kernel.split()[0]}" for run in finished if run.result.kernel}
    out.print(f"\n{'; '.join(sorted(kernels))}")
    for run in finished:
        out.print(str(run.folder))


def _facts(facts: dict[str, Any]) -> str:
    def word(value: Any) -> str:
        if isinstance(value, dict):
            return f"{value['low'] if value['low'] is not None else ''}..{value['high'] if value['high'] is not None else ''}"
        return plain(value) if value != "" else "none"

    return " ".join(f"{name}={word(value)}" for name, value in facts.items())


def _tell_story(result: Result) -> None:
    """For each arm that did not go as predicted: the numbered story, and what was wrong."""
    from twlab.transcript import Entry, Transcript

    for name, arm in result.arms.items():
        if arm.ok:
            continue
        out.print(f"\n[bold]{result.scenario}, arm {name}[/bold]")
        transcript = Transcript(lambda: 0.0)
        transcript.entries = [Entry(**entry) for entry in arm.transcript]
        for line in transcript.story():
            out.print(f"  {escape(line)}")
        for mismatch in arm.mismatches:
            out.print(f"  [red]✗ {escape(mismatch)}[/red]")
        if arm.error:
            out.print(f"  [yellow]? {escape(arm.error['message'])} \\[{arm.error['slug']}][/yellow]")
            if arm.error["remedy"]:
                out.print(f"    remedy: {escape(arm.error['remedy'])}")


if __name__ == "__main__":
    main()
