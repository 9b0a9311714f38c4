"""sweep"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from twlab.commands.console import KernelOption, complain, err, find, kept, out
from twlab.engines import use_kernel
from twlab.errors import NOTHING_KEPT, Interrupted, UsageError, did_you_mean
from twlab.results.files import check_file
from twlab.scenario import Overrides


def sweep(
    name: Annotated[
        str,
        typer.Argument(help="A scenario with the arguments delay_s and trials, or the path of a file that holds one."),
    ],
    grid: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE,...", help="An axis of the grid (may be repeated).")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, max=20_000, help="Four-tuples in each cell.")] = 100,
    jobs: Annotated[int, typer.Option(min=1, help="Lab kernels side by side.")] = os.cpu_count() or 1,
    arm: Annotated[str, typer.Option(help="The arm that the grid's settings change.")] = "treatment",
    kernel: KernelOption = "",
    seed: Annotated[int, typer.Option(help="For everything random.")] = 1,
    file: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="JSON; CSV beside it. Continued if it exists.")
    ] = Path("sweep.json"),
    scheduler: Annotated[
        str, typer.Option(metavar="tcp://HOST:PORT", help="Of a Dask cluster, to run on its machines instead.")
    ] = "",
) -> None:
    """How low is safe: run a grid of settings in lab kernels. Interrupt it when you like: the same
    command goes on where it was.
    """
    from twlab.commands.progress import bar
    from twlab.report.figures.heatmap import draw
    from twlab.studies.sweep.fill import dask_executor, fill, fill_with
    from twlab.studies.sweep.table import OUTCOMES, Table, cells

    use_kernel(kernel)
    source, found = find(name)
    if lacking := [key for key in ("delay_s", "trials") if key not in found.parameters]:
        raise UsageError(
            f"{found.name} cannot be swept: its steps take no {lacking[0]}",
            "e.g. twlab sweep stale-segment",
            "not-sweepable",
        )
    if arm not in found.arms:
        near = did_you_mean(arm, found.arms)
        raise UsageError(
            f"{found.name} has no arm called {arm!r}{near}", f"its arms are: {', '.join(found.arms)}", "no-such-arm"
        )
    wanted = cells(grid or ())
    for cell in wanted:
        Overrides.parse(list(cell), [found])
    table = Table(found.name, trials, seed, arm, tuple(pair.partition("=")[0] for pair in wanted[0]), found.digest)
    if not scheduler:
        table.kernel = _lab_kernel()
    path = file.with_suffix(".json")
    check_file(path)
    table.resume(path)
    with bar(err, found.name) as advance:

        def on_cell(cell: tuple[str, ...]) -> None:
            table.write(path)
            outcome = (
                ", ".join(f"{table.done[cell][name]} {name}" for name in OUTCOMES)
                if cell in table.done
                else table.failed[cell]
            )
            count = sum(cell in table.done for cell in wanted)
            advance(count / len(wanted), f"{count}/{len(wanted)}  {' '.join(cell)}  {outcome}")

        try:
            if scheduler:
                with dask_executor(scheduler) as executor:
                    fill_with(executor, table, source, wanted, parts=jobs, on_cell=on_cell)
            else:
                fill(table, source, wanted, jobs=jobs, on_cell=on_cell)
        except KeyboardInterrupt as stop:
            done = sum(cell in table.done for cell in wanted)
            what = f"kept in {path}: {done} of {len(wanted)} cells; the same command goes on from there"
            raise Interrupted(what if done else NOTHING_KEPT) from stop
    table.write(path)
    files = [path, path.with_suffix(".csv")]
    if {"timestamps", "time_wait_s", "delay_s"} == set(table.axes) and table.done:
        files += draw(table.rows(), f"{found.name}: {trials} trials a cell, Linux {table.kernel}", path)
    kept.extend(files)
    for written in files:
        out.print(str(written))
    if missing := [cell for cell in wanted if cell not in table.done]:
        complain(
            f"{len(missing)} of {len(wanted)} cells could not be carried out; {' '.join(missing[0])}: {table.failed[missing[0]]}"
        )
        raise typer.Exit(1)


def _lab_kernel() -> str:
    """Its release, as far as is known. Raises CapabilityError: there is none (``no-lab-kernel``)."""
    from twlab.engines.guest.engine import built_kernel
    from twlab.engines.kernel import Kernel

    return str(Kernel(built_kernel()).facts().get("version", ""))
