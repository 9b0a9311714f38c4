"""The sweep: its grid, its table that can be continued, and what the lab kernel fills it with."""

import importlib.util
import json
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from twlab.engines.pool import answers_from
from twlab.errors import UsageError
from twlab.studies.sweep.fill import CLUSTER_TRIALS, fill, take, tasks_for
from twlab.studies.sweep.table import DEFAULT_GRID, SweepTable, cells, deal

CELL = ("timestamps=0", "time_wait_s=1", "delay_s=5")


# A program of its own: Dask starts processes and threads, of which a test run wants to know
# nothing.
ON_DASK = """
import subprocess, sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        sys.exit(subprocess.run([*sys.argv[1:], "--scheduler", cluster.scheduler_address]).returncode)
"""
SWEEP = (
    "sweep",
    "stale-segment",
    "--trials",
    "3",
    "--jobs",
    "2",
    "--grid",
    "time_wait_s=1,5",
    "--grid",
    "delay_s=1,20",
)


def observed(**counts: int) -> dict[str, Any]:
    return {"observed": {"harmed": 0, "delayed": 0, "unharmed": 0, **counts}}


def test_a_grid_is_every_combination_and_what_is_not_given_is_the_default() -> None:
    """Axes given replace those of the default grid; the others stay."""
    assert len(cells(())) == 2 * 7 * 8
    assert cells(("time_wait_s=10", "delay_s=1,2", "timestamps=0")) == [
        ("timestamps=0", "time_wait_s=10", "delay_s=1"),
        ("timestamps=0", "time_wait_s=10", "delay_s=2"),
    ]


@pytest.mark.parametrize("axis", ["time_wait_s", "=1", "time_wait_s=", "time_wait_s=1,,2", "time_wait_s=1,1"])
def test_what_is_no_axis_is_refused(axis: str) -> None:
    """An axis is KEY=VALUE,VALUE."""
    with pytest.raises(UsageError, match="bad-grid"):
        cells((axis,))


@pytest.mark.parametrize("jobs", [1, 2, 7])
def test_every_cell_is_dealt_once(jobs: int) -> None:
    """The parts together are the grid."""
    grid = cells(DEFAULT_GRID)
    assert sorted(cell for part in deal(grid, jobs) for cell in part) == sorted(grid)


def test_a_cluster_is_given_small_parts() -> None:
    """However many cells and trials: a worker that dies costs some seconds, and many workers have
    something to do.
    """
    grid = cells(DEFAULT_GRID)
    assert [len(part) for part in deal(grid, 2, 1)] == [1] * len(grid)
    assert {len(part) for part in deal(grid, 2, 20)} == {18, 19}
    assert len(deal(grid[:3], 2, 20)) == 3
    for trials, most in ((100, 20), (10_000, 1)):
        table = SweepTable("stale-segment", trials, 1)
        tasks = tasks_for(table, "stale-segment", grid, 2, most_cells=max(1, CLUSTER_TRIALS // trials))
        assert max(len(task["cells"]) for task in tasks) <= most


def test_a_table_is_continued_from_its_file(tmp_path: Path) -> None:
    """Finished cells come back; failed ones, and outcomes that do not add up, are not finished."""
    table = SweepTable("stale-segment", 10, 1)
    table.record(CELL, observed(harmed=9, delayed=1))
    table.record((*CELL[:2], "delay_s=6"), observed(harmed=9))
    assert len(table.failed) == 1
    table.write(tmp_path / "sweep.json")
    again = SweepTable("stale-segment", 10, 1)
    again.resume(tmp_path / "sweep.json")
    assert again.done == table.done and not again.failed
    assert (
        tmp_path / "sweep.csv"
    ).read_text() == "timestamps,time_wait_s,delay_s,trials,harmed,delayed,unharmed\n0,1,5,10,9,1,0\n"


@pytest.mark.parametrize(
    "other",
    [{"trials": 20}, {"seed": 2}, {"arm": "covered"}, {"steps": "changed"}, {"axes": ("delay_s",)}, {"kernel": "6.1"}],
)
def test_a_table_of_something_else_is_not_continued(other: dict[str, Any], tmp_path: Path) -> None:
    """All else that a cell's outcome depends on is the same in all of a table; the message names
    what is not.
    """
    file = tmp_path / "sweep.json"
    same: dict[str, Any] = {"scenario": "stale-segment", "trials": 10, "seed": 1, "kernel": "6.12"}
    table = SweepTable(**same)
    table.record(CELL, observed(harmed=10))
    table.write(file)
    SweepTable(**same).resume(file)
    with pytest.raises(UsageError, match="other-sweep") as refused:
        SweepTable(**{**same, **other}).resume(file)
    assert next(iter(other)) in str(refused.value)


@pytest.mark.parametrize("text", ["[]", "{}", "no JSON", '{"cells": [1]}'])
def test_what_is_no_sweep_is_not_written_over(text: str, tmp_path: Path) -> None:
    """A file that is something else is told so."""
    file = tmp_path / "sweep.json"
    file.write_text(text)
    with pytest.raises(UsageError, match="broken-sweep"):
        SweepTable("stale-segment", 10, 1).resume(file)


def test_cells_of_two_kernels_do_not_mix() -> None:
    """On a cluster of machines with different lab kernels, the first one's counts, and the others'
    cells are told as failed.
    """
    table = SweepTable("stale-segment", 10, 1)
    table.record(CELL, {**observed(harmed=10), "kernel": "6.12"})
    table.record((*CELL[:2], "delay_s=6"), {**observed(harmed=10), "kernel": "6.1"})
    assert list(table.done) == [CELL]
    assert list(table.failed.values()) == ["ran on Linux 6.1, the other cells on 6.12"]


def test_a_machine_that_cannot_costs_its_own_cells_only() -> None:
    """What an executor raises is why those cells failed; the others stand."""

    class Executor:
        def submit(self, function: Any, driver: str, task: dict[str, Any]) -> Future[Any]:
            future: Future[Any] = Future()
            if ["timestamps=0", "time_wait_s=1", "delay_s=1"] in task["cells"]:
                future.set_exception(OSError("no lab kernel there"))
            else:
                future.set_result(([[n, observed(unharmed=5)] for n in range(len(task["cells"]))], None))
            return future

    table = SweepTable("stale-segment", 5, 1)
    grid = cells(("time_wait_s=1", "delay_s=1,2"))
    tasks = tasks_for(table, "stale-segment", grid, jobs=4)
    take(answers_from(Executor(), "twlab.studies.sweep.driver", tasks), table, tasks, on_cell=lambda cell: None)
    assert len(table.done) == 3
    assert list(table.failed.values()) == ["no lab kernel there"]


@pytest.mark.guest
def test_harm_needs_a_segment_older_than_time_wait_and_no_timestamps(tmp_path: Path) -> None:
    """Without timestamps: harmed if and only if delay > TIME_WAIT, else delayed; with them nothing.
    What is done is not done again.
    """
    table = SweepTable("stale-segment", 3, 1)
    grid = cells(("time_wait_s=1,5", "delay_s=1,2,20"))
    for wanted, expected in ((grid[:5], 5), (grid, len(grid) - 5)):
        told: list[Any] = []
        fill(table, "stale-segment", wanted, jobs=2, on_cell=told.append)
        assert len(told) == expected, table.failed
    for row in table.rows():
        late = float(row["delay_s"]) > float(row["time_wait_s"])
        outcome = "unharmed" if row["timestamps"] == "1" else "harmed" if late else "delayed"
        assert row[outcome] == 3, row


@pytest.mark.guest
def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    """Killed in the middle, the command has written the cells that were finished; started again, it
    does the others alone.
    """
    file = tmp_path / "sweep.json"
    command = [sys.executable, "-m", "twlab", *SWEEP, "--jobs", "1", "--out", str(file)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, cwd=tmp_path
    ) as process:
        assert process.stderr and "1/8" in process.stderr.readline()
        process.kill()
    before = json.loads(file.read_text())["cells"]
    assert 1 <= len(before) < 8
    again = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert f"{len(before) + 1}/8" in again.stderr.splitlines()[0]
    after = json.loads(file.read_text())["cells"]
    assert len(after) == 8 and all(row in after for row in before)


@pytest.mark.guest
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="the package distributed is missing")
def test_a_dask_cluster_finds_the_same(tmp_path: Path) -> None:
    """`--scheduler`, with two worker processes of a local cluster, gives the table that two boots
    side by side give.
    """
    program = tmp_path / "on_dask.py"
    program.write_text(ON_DASK)
    for name, before in (("here", ()), ("there", (sys.executable, str(program)))):
        command = [*before, sys.executable, "-m", "twlab", *SWEEP, "--out", str(tmp_path / f"{name}.json")]
        subprocess.run(command, capture_output=True, check=True, timeout=120, cwd=tmp_path)
    assert len(json.loads((tmp_path / "here.json").read_text())["cells"]) == 8
    for suffix in ("json", "csv"):
        assert (tmp_path / f"there.{suffix}").read_text() == (tmp_path / f"here.{suffix}").read_text()
