"""The command `twlab sweep`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twlab.commands.console import DefaultsOption, KernelOption, SchedulerOption, complain, err, find, kept, out
from twlab.engines import use_kernel
from twlab.errors import NOTHING_KEPT, Interrupted
from twlab.results.files import check_file
from twlab.world import check_world, words

if TYPE_CHECKING:
    from twlab.studies.sweep.table import SweepTable


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
    defaults: DefaultsOption = "pinned",
    seed: Annotated[int, typer.Option(help="For everything random.")] = 1,
    file: Annotated[
        Path, typer.Option("--out", metavar="FILE", help="JSON; CSV beside it. Continued if it exists.")
    ] = Path("sweep.json"),
    scheduler: SchedulerOption = "",
) -> None:
    """Run a grid of settings in lab kernels, to find how low is safe.

    You may interrupt it at any time: the same command goes on where it was.
    """
    from twlab.report.figures.heatmap import draw
    from twlab.studies.progress import lab_kernel
    from twlab.studies.sweep.fill import plan

    use_kernel(kernel)
    source, found = find(name)
    table, wanted = plan(found, arm, grid or (), trials, seed, check_world(defaults))
    if not scheduler:
        table.kernel = lab_kernel()
    path = file.with_suffix(".json")
    check_file(path)
    table.resume(path)
    _fill(table, wanted, path, source, found.name, jobs, scheduler)
    table.write(path)
    files = [path, path.with_suffix(".csv")]
    if {"timestamps", "time_wait_s", "delay_s"} == set(table.axes) and table.done:
        ground = ", ".join(filter(None, [f"Linux {table.kernel}", words(table.world)]))
        files += draw(table.rows(), f"{found.name}: {trials} trials a cell, {ground}", path)
    kept.extend(files)
    for written in files:
        out.print(str(written), markup=False)
    if missing := [cell for cell in wanted if cell not in table.done]:
        why = f"{' '.join(missing[0])}: {table.failed[missing[0]]}"
        complain(f"{len(missing)} of {len(wanted)} cells could not be carried out; {why}")
        raise typer.Exit(1)


def _fill(
    table: SweepTable, wanted: Sequence[tuple[str, ...]], path: Path, source: str, title: str, jobs: int, scheduler: str
) -> None:
    """Run the cells that the table lacks, with a bar; the file has each as soon as it is there.

    Raises:
        Interrupted: by Ctrl-C; it says what is kept.
    """
    from twlab.commands.progress import bar
    from twlab.studies.sweep.fill import fill
    from twlab.studies.sweep.table import OUTCOMES

    def count() -> int:
        return sum(cell in table.done for cell in wanted)

    with bar(err, title, count() / len(wanted)) as advance:

        def on_cell(cell: tuple[str, ...]) -> None:
            table.write(path)
            outcome = (
                ", ".join(f"{table.done[cell][name]} {name}" for name in OUTCOMES)
                if cell in table.done
                else table.failed[cell]
            )
            done = count()
            advance(done / len(wanted), f"{done}/{len(wanted)}  {' '.join(cell)}  {outcome}")

        try:
            fill(table, source, wanted, jobs=jobs, on_cell=on_cell, scheduler=scheduler)
        except KeyboardInterrupt as stop:
            done = count()
            what = f"kept in {path}: {done} of {len(wanted)} cells; the same command goes on from there"
            raise Interrupted(what if done else NOTHING_KEPT) from stop
