"""Fills a sweep's table: many cells a boot, several boots at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NotRequired, TypedDict

from twlab.engines import pool
from twlab.errors import UsageError, did_you_mean
from twlab.overrides import Overrides
from twlab.run.worlds import find_world
from twlab.scenario import Scenario
from twlab.studies.sweep.table import Cell, SweepTable, cells, deal
from twlab.world import PINNED, WorldName

DRIVER = "twlab.studies.sweep.driver"
# A cluster's answers come at the end of a task, and it has any number of workers. So many trials
# take some seconds, ten times as long as a boot: that is what a worker that dies may cost.
CLUSTER_TRIALS = 2000
OnCell = Callable[[Cell], None]


class SweepTask(TypedDict):
    """A part of the grid, for one boot.

    Keys:
        source: the scenario, by name or path.
        arm: whose settings those of a cell change.
        trials, seed: of each cell.
        cells: ``KEY=VALUE`` texts, a list for each cell.
        kernel: path of the lab kernel; empty: the one in use where the task is carried out.
        world: what nodes start from, where it is not the pinned world.
    """

    source: str
    arm: str
    trials: int
    seed: int
    cells: list[list[str]]
    kernel: str
    world: NotRequired[dict[str, Any]]


def plan(
    scenario: Scenario, arm: str, axes: Sequence[str], trials: int, seed: int, world: WorldName = "pinned"
) -> tuple[SweepTable, list[Cell]]:
    """Return an empty table and the cells of its grid.

    Args:
        axes: ``KEY=VALUE,VALUE...`` each, see `twlab.studies.sweep.table.cells`.
        world: what nodes start from.

    Raises:
        UsageError: the scenario takes no delay_s or trials (``not-sweepable``), there is no such
            arm (``no-such-arm``), an axis is wrong (``bad-grid``), or a value of it.
    """
    if lacking := [key for key in ("delay_s", "trials") if key not in scenario.parameters]:
        raise UsageError(
            f"{scenario.name} cannot be swept: its steps take no {lacking[0]}",
            "e.g. twlab sweep stale-segment",
            "not-sweepable",
        )
    if arm not in scenario.arms:
        near = did_you_mean(arm, scenario.arms)
        message = f"{scenario.name} has no arm called {arm!r}{near}"
        raise UsageError(message, f"its arms are: {', '.join(scenario.arms)}", "no-such-arm")
    wanted = cells(axes)
    for cell in wanted:
        Overrides.parse(list(cell), [scenario])
    keys = tuple(pair.partition("=")[0] for pair in wanted[0])
    return SweepTable(scenario.name, trials, seed, arm, keys, scenario.digest, world), wanted


def fill(
    table: SweepTable,
    source: str,
    wanted: Sequence[Cell],
    *,
    jobs: int,
    on_cell: OnCell,
    scheduler: str = "",
    kernel: str = "",
) -> None:
    """Carry out the cells of `wanted` that `table` lacks.

    Args:
        source: the scenario, by name or path. The settings of a cell go over those of the table's
            arm.
        jobs: boots side by side.
        on_cell: called after each cell, which the table then has.
        scheduler: of a Dask cluster, see `twlab.engines.pool.answers`.
        kernel: path of the lab kernel; empty: the one in use.
    """
    most_cells = max(1, CLUSTER_TRIALS // table.trials) if scheduler else 0
    tasks = tasks_for(table, source, wanted, jobs, kernel, most_cells)
    take(pool.answers(DRIVER, tasks, jobs, scheduler), table, tasks, on_cell)


def tasks_for(
    table: SweepTable, source: str, wanted: Sequence[Cell], jobs: int, kernel: str = "", most_cells: int = 0
) -> list[SweepTask]:
    """Return the cells of `wanted` that `table` lacks, in parts, see `deal`."""
    missing = [cell for cell in wanted if cell not in table.done]
    tasks = []
    for part in deal(missing, jobs, most_cells) if missing else []:
        cells = [list(cell) for cell in part]
        task = SweepTask(source=source, arm=table.arm, trials=table.trials, seed=table.seed, cells=cells, kernel=kernel)
        if table.world != PINNED.name:
            task["world"] = find_world(table.world).as_dict()
        tasks.append(task)
    return tasks


def take(answers: Any, table: SweepTable, tasks: Sequence[SweepTask], on_cell: OnCell) -> None:
    """Record `answers` in `table`: pairs of a task's number and an answer of the pool."""
    left = [[tuple(cell) for cell in task["cells"]] for task in tasks]
    for number, answer in answers:
        if isinstance(answer, pool.Ended):
            results = [(cell, {"error": answer.error}) for cell in left[number]]
        else:
            cell = tuple(tasks[number]["cells"][answer[0]])
            left[number].remove(cell)
            results = [(cell, answer[1])]
        for cell, result in results:
            table.record(cell, result)
            on_cell(cell)
