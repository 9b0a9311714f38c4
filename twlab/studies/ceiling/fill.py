"""Fills a table of ceilings: a boot for each case, several at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twlab.engines import pool
from twlab.ports import PortChoice
from twlab.studies.ceiling.cases import Case, write
from twlab.studies.progress import Progress

DRIVER = "twlab.studies.ceiling.driver"


class CeilingTable:
    """The rows that have been measured, in a folder.

    Args:
        folder: for ``ceiling.json``, ``.csv``, and what an unfinished table needs to go on.
        wanted: the cases, in the table's order.
        seed: of the lab kernels.
        command: by which the table was asked for.
        kernel: release of the lab kernel, where it is known beforehand; otherwise empty.

    Attributes:
        files: the two.

    Raises:
        UsageError: the folder holds another unfinished table (``other-progress``), or a broken one
            (``broken-progress``).
        CapabilityError: the folder cannot be written to (``cannot-write``).
    """

    def __init__(self, folder: Path, wanted: Sequence[Case], *, seed: int, command: str, kernel: str = ""):
        self._folder = folder
        self._wanted = wanted
        self._seed = seed
        self._about = {"engine": "guest", "command": command, "seed": seed}
        identity = {"study": "ceiling", "seed": seed, "cases": [dataclasses.asdict(case) for case in wanted]}
        self._progress = Progress(folder, identity, kernel)
        self._progress.resume()
        self.files = self._write()

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of the cases that are done, in the table's order."""
        return [self._progress.done[number]["row"] for number in sorted(self._progress.done)]

    @property
    def kernel(self) -> str:
        """The kernel that the rows were measured on; empty before the first."""
        return next((event["kernel"] for event in self._progress.done.values()), "")

    def fill(self, *, jobs: int, on_case: Callable[[Case, dict[str, Any]], None], scheduler: str = "") -> None:
        """Measure the missing cases; one that fails is measured again the next time.

        Args:
            jobs: boots side by side.
            on_case: called after each, with ``row`` and ``kernel``, or with ``error``, a message.
            scheduler: of a Dask cluster, see `twlab.engines.pool.answers`.
        """
        missing = [number for number in range(len(self._wanted)) if number not in self._progress.done]
        cases = [self._wanted[number] for number in missing]
        for index, event in measure_all(cases, seed=self._seed, jobs=jobs, scheduler=scheduler):
            if "row" in event and self.kernel not in ("", event["kernel"]):
                event = {"error": f"ran on Linux {event['kernel']}, the other cases on {self.kernel}"}
            if "row" in event:
                self._progress.record(missing[index], event)
                self._write()
            on_case(cases[index], event)
        if len(self._progress.done) == len(self._wanted):
            self._progress.finish()

    def _write(self) -> list[Path]:
        return write(self._folder, self.rows, kernel=self.kernel, **self._about)


def measure_all(
    wanted: Sequence[Case], *, seed: int, jobs: int, scheduler: str = ""
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Measure every case, the costly ones first; yields (index, event) when done.

    An event has ``row`` and ``kernel``, or ``error``, a message.
    """
    order = sorted(range(len(wanted)), key=lambda index: -_cost(wanted[index]))
    tasks = [{"case": dataclasses.asdict(wanted[index]), "seed": seed} for index in order]
    found: dict[int, dict[str, Any]] = {}
    for number, answer in pool.answers(DRIVER, tasks, jobs, scheduler):
        if not isinstance(answer, pool.Ended):
            found[number] = answer
        elif answer.error:
            yield order[number], {"error": answer.error["message"]}
        else:
            yield order[number], found.pop(number)


def _cost(case: Case) -> float:
    """Estimate the cost of a case, in connections.

    Where the kernel chooses alone, half of them cost a search through all even ports.
    """
    search = 5 if case.choice is PortChoice.CONNECT else 1
    return case.ports * case.origins * search * (1 if case.to_the_tick else 2)
