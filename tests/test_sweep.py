"""The sweep: its grid, its table that can be continued, and what the lab kernel fills it with."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from twlab.errors import UsageError
from twlab.sweep import DEFAULT_GRID, Table, cells, deal
from twlab.sweeping import fill

CELL = ("timestamps=0", "time_wait_s=1", "delay_s=5")


# A program of its own: Dask starts processes and threads, of which a test run wants to know nothing.
ON_DASK = """
import json
from distributed import Client, LocalCluster
from twlab.sweep import Table, cells
from twlab.sweeping import dask_executor, fill_with
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        table = Table("stale-segment", 3, 1)
        with dask_executor(cluster.scheduler_address) as executor:
            grid = cells(("time_wait_s=1,5", "delay_s=1,20"))
            fill_with(executor, table, "stale-segment", grid, parts=2, arm="treatment", on_cell=lambda cell: None)
        print(json.dumps(table.rows()))
"""


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


def test_a_table_is_continued_from_its_file(tmp_path: Path) -> None:
    """Finished cells come back; failed ones, and outcomes that do not add up, are not finished."""
    table = Table("stale-segment", 10, 1)
    table.record(CELL, observed(harmed=9, delayed=1))
    table.record((*CELL[:2], "delay_s=6"), observed(harmed=9))
    assert len(table.failed) == 1
    table.write(tmp_path / "sweep.json")
    again = Table("stale-segment", 10, 1)
    again.resume(tmp_path / "sweep.json")
    assert again.done == table.done and not again.failed
    assert (tmp_path / "sweep.csv").read_text() == "timestamps,time_wait_s,delay_s,trials,harmed,delayed,unharmed\n0,1,5,10,9,1,0\n"


def test_a_table_of_something_else_is_not_continued(tmp_path: Path) -> None:
    """Other trials would mix two measurements, and a broken file is not written over."""
    file = tmp_path / "sweep.json"
    table = Table("stale-segment", 10, 1)
    table.write(file)
    with pytest.raises(UsageError, match="other-sweep"):
        Table("stale-segment", 20, 1).resume(file)
    file.write_text(json.dumps([]))
    with pytest.raises(UsageError, match="broken-sweep"):
        table.resume(file)


@pytest.mark.guest
def test_harm_needs_a_segment_older_than_time_wait_and_no_timestamps(tmp_path: Path) -> None:
    """Without timestamps: harmed if and only if delay > TIME_WAIT, else delayed; with them nothing. What is done is not done again."""
    table = Table("stale-segment", 3, 1)
    grid = cells(("time_wait_s=1,5", "delay_s=1,2,20"))
    for wanted, expected in ((grid[:5], 5), (grid, len(grid) - 5)):
        told: list[Any] = []
        fill(table, "stale-segment", wanted, jobs=2, arm="treatment", on_cell=told.append)
        assert len(told) == expected, table.failed
    for row in table.rows():
        late = float(row["delay_s"]) > float(row["time_wait_s"])
        outcome = "unharmed" if row["timestamps"] == "1" else "harmed" if late else "delayed"
        assert row[outcome] == 3, row


@pytest.mark.guest
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="the package distributed is missing")
def test_a_dask_cluster_finds_the_same(tmp_path: Path) -> None:
    """Two worker processes of a local cluster give the table that two boots side by side give."""
    program = tmp_path / "on_dask.py"
    program.write_text(ON_DASK)
    printed = subprocess.run([sys.executable, program], capture_output=True, text=True, check=True, timeout=120).stdout
    table = Table("stale-segment", 3, 1)
    fill(table, "stale-segment", cells(("time_wait_s=1,5", "delay_s=1,20")), jobs=2, arm="treatment", on_cell=lambda cell: None)
    assert len(table.rows()) == 8
    assert json.loads(printed.splitlines()[-1]) == table.rows()
