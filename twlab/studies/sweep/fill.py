"""Fills a sweep's table: parts of the grid in lab kernels, many cells a boot, several boots side by
side.

This module is also the program that drives a boot (`twlab.engines.pool`): an answer for each cell,
its number and its result.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from twlab.catalogue import parse_overrides
from twlab.engines import pool
from twlab.engines.guest.engine import Guest
from twlab.engines.protocol import Job, arms_request
from twlab.errors import CapabilityError, EngineError, LabError
from twlab.studies.sweep.table import Cell, Table, deal

_REAL_LIMIT_S = 600.0  # for one cell, of which nothing is heard until it is done
Part = dict[str, Any]


def fill(table: Table, source: str, wanted: Sequence[Cell], *, jobs: int, on_cell: Callable[[Cell], None]) -> None:
    """Carry out the cells of `wanted` that `table` lacks. `on_cell` is called after each, which the
    table then has.

    Args:
        source: the scenario, by name or path. The settings of a cell go over those of the table's
            arm.
        jobs: boots side by side.
    """
    missing = [cell for cell in wanted if cell not in table.done]
    parts = [part_of(table, source, cells) for cells in deal(missing, jobs)] if missing else []
    for number, answer in pool.answers("twlab.studies.sweep.fill", parts, jobs):
        cells = [tuple(cell) for cell in parts[number]["cells"]]
        if isinstance(answer, pool.Ended):
            results = [
                (cell, {"error": {"message": str(answer)}})
                for cell in cells
                if cell not in table.done and cell not in table.failed
            ]
        else:
            index, result = answer
            results = [(cells[index], result)]
        for cell, result in results:
            table.record(cell, result)
            on_cell(cell)


def fill_with(
    executor: Any, table: Table, source: str, wanted: Sequence[Cell], *, parts: int, on_cell: Callable[[Cell], None]
) -> None:
    """As `fill`, but wherever `executor` runs what it is given: `submit` of `concurrent.futures` is
    all that is asked of it.

    Args:
        parts: boots at a time that it has room for; its machines need twlab and a lab kernel.
    """
    missing = [cell for cell in wanted if cell not in table.done]
    finished: SimpleQueue[tuple[Part, Any]] = SimpleQueue()
    dealt = [part_of(table, source, cells) for cells in deal(missing, parts)] if missing else []
    for part in dealt:
        executor.submit(results_of, part).add_done_callback(lambda future, part=part: finished.put((part, future)))
    for _ in dealt:
        part, future = finished.get()
        try:
            results = future.result()
        except Exception as error:  # whatever went wrong there, a machine without a lab kernel for one
            results = [{"error": {"message": str(error)}}] * len(part["cells"])
        for cell, result in zip(map(tuple, part["cells"]), results, strict=True):
            table.record(cell, result)
            on_cell(cell)


@contextmanager
def dask_executor(scheduler: str) -> Iterator[Any]:
    """An executor of the Dask cluster at `scheduler`.

    Raises:
        CapabilityError: the package distributed is missing, or nobody answers there
            (``no-scheduler``).
    """
    try:
        from distributed import Client

        client = Client(scheduler, timeout="10s")
    except (ImportError, OSError, ValueError) as error:
        message = f"no Dask cluster at {scheduler}: {error}"
        raise CapabilityError(message, "pip install twlab[sweep]; start one: dask scheduler", "no-scheduler") from error
    with client:
        yield client.get_executor(pure=False)


def results_of(part: Part) -> list[dict[str, Any]]:
    """The results of one part, in the order of its cells."""
    results: dict[int, dict[str, Any]] = {}
    carry_out(part, results.__setitem__)
    return [results[number] for number in range(len(part["cells"]))]


def part_of(table: Table, source: str, cells: Sequence[Cell]) -> Part:
    """A part of the grid as JSON values: what `carry_out` takes."""
    return {
        "source": source,
        "arm": table.arm,
        "trials": table.trials,
        "seed": table.seed,
        "cells": [list(cell) for cell in cells],
    }


def carry_out(part: Part, on_result: Callable[[int, dict[str, Any]], None]) -> None:
    """Run one part in as many boots as it takes, usually one; `on_result` is called with each
    cell's number and result.

    A cell that the guest does not survive is recorded as such, and the others get a fresh boot.
    """
    left = list(range(len(part["cells"])))
    with tempfile.TemporaryDirectory(prefix="twlab-sweep-") as folder:
        while left:
            batch: list[int] = list(left)
            done: list[int] = []

            def on_event(event: dict[str, Any], batch: list[int] = batch, done: list[int] = done) -> None:
                if event["event"] == "arm":
                    done.append(batch[event["job"]])
                    on_result(done[-1], event["result"])

            request = arms_request([_job(part, number, folder) for number in batch], seed=part["seed"])
            try:
                Guest(agent="twlab.studies.sweep.agent", silence_s=_REAL_LIMIT_S).run(
                    request, Path(folder), on_event, _REAL_LIMIT_S * len(batch)
                )
            except EngineError as error:
                for victim in [number for number in batch if number not in done][:1]:
                    done.append(victim)
                    on_result(victim, {"error": {"message": str(error)}})
            left = [number for number in batch if number not in done]


def _job(part: Part, number: int, folder: str) -> Job:
    pairs = [*part["cells"][number], f"trials={part['trials']}"]
    changed = parse_overrides(part["source"], pairs).as_dict()
    seed = f"{part['seed']} {part['arm']} {pairs}"
    return Job(source=part["source"], arm=part["arm"], folder=folder, set=changed, seed=seed)


def main() -> None:
    """Carry out the part on standard input; end with the process that started us."""
    part = pool.request()
    told = set()

    def tell(number: int, result: dict[str, Any]) -> None:
        told.add(number)
        pool.answer([number, result])

    try:
        carry_out(part, tell)
    except LabError as error:
        for number in range(len(part["cells"])):
            if number not in told:
                tell(number, {"error": {"message": str(error)}})


if __name__ == "__main__":
    main()
