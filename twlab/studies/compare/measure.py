"""Runs scenarios in every column, and decides what differs.

Each result is kept as it comes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twlab.engines import pool
from twlab.errors import EngineError, UsageError
from twlab.results import files
from twlab.scenario import Scenario
from twlab.studies.compare import driver
from twlab.studies.compare.columns import HOST, Column
from twlab.studies.compare.differences import Difference, Outcome, differences, facts_of, verdicts
from twlab.studies.compare.draws import looks
from twlab.studies.progress import Progress

SCHEMA = 1
FILE = "compare.json"
ARMS_A_BOOT = 24
OnArm = Callable[[str, str], None]  # what is being done, and the arm that is done
_Task = tuple[Column, dict[str, Any]]


class Comparison:
    """Scenarios over columns, in a folder.

    Args:
        folder: for ``compare.json`` and the runs that differ.
        scenarios: source (name, or path of a file) and scenario.
        columns: what to run them on.
        seed: of the first run; repetitions count up from it.
        seeds: the most repetitions of an arm, to decide about what differs.
        command: by which the comparison was asked for.

    Attributes:
        progress: the file that an interrupted comparison goes on from.
        total: arms of the first runs.
        done: arms done up to now, repetitions included.

    Raises:
        UsageError: two scenarios have one name (``same-scenario``), or the folder holds another
            comparison, see `twlab.studies.progress.Progress.resume`.
    """

    def __init__(
        self,
        folder: Path,
        scenarios: Sequence[tuple[str, Scenario]],
        columns: Sequence[Column],
        *,
        seed: int,
        seeds: int,
        command: str,
    ):
        self._folder = folder
        self._scenarios = scenarios
        self._columns = {column.name: column for column in columns}
        self._seed, self._seeds, self._command = seed, seeds, command
        self._sources: dict[str, str] = {}
        for source, scenario in scenarios:
            if scenario.name in self._sources:
                raise UsageError(
                    f"two of the scenarios are called {scenario.name!r}: {self._sources[scenario.name]} and {source}",
                    "name each once, or rename the function of one",
                    "same-scenario",
                )
            self._sources[scenario.name] = source
        digest = hashlib.sha256(json.dumps([scenario.digest for _, scenario in scenarios]).encode()).hexdigest()
        # Not the columns: a run of one says nothing about another, and one may be added.
        identity = {"study": "compare", "seed": seed, "scenarios": digest, "names": list(self._sources)}
        self.progress = Progress(folder, identity)
        self.progress.resume()
        self.total = len(columns) * sum(len(scenario.arms) for _, scenario in scenarios)
        self.done = 0

    def measure(self, *, jobs: int, on_arm: OnArm) -> dict[str, Any]:
        """Run what is missing, decide, and write ``compare.json``; return its content.

        Args:
            jobs: lab kernels side by side; the host's runs come one at a time.
            on_arm: called after each arm.

        Raises:
            CapabilityError: the files cannot be written (``cannot-write``).
        """
        outcomes, folders = self._first_runs(jobs, on_arm)
        arms = {
            (scenario.name, arm): {column: outcomes[column, scenario.name, arm] for column in self._columns}
            for _, scenario in self._scenarios
            for arm in scenario.arms
        }
        found = [difference for (name, arm), seen in arms.items() for difference in differences(name, arm, seen)]
        self._decide(found, jobs, on_arm)
        made = {
            "schema": SCHEMA,
            "kind": "compare",
            "command": self._command,
            "seed": self._seed,
            "seeds": self._seeds,
            "columns": [
                {**column.as_dict(), "kernel": self._release(column, outcomes)} for column in self._columns.values()
            ],
            "compared": {"scenarios": len(self._scenarios), "arms": len(arms)},
            "verdicts": [row for (name, arm), seen in arms.items() if (row := verdicts(name, arm, seen))],
            "folders": self._tidy(folders, {difference.scenario for difference in found}),
            "rows": [difference.as_row() for difference in found],
        }
        files.write_all({self._folder / FILE: json.dumps(made, indent=1) + "\n"})
        self.progress.finish()
        return made

    def _first_runs(
        self, jobs: int, on_arm: OnArm
    ) -> tuple[dict[tuple[str, str, str], Outcome], dict[str, dict[str, str]]]:
        """Run every scenario in every column.

        Returns:
            (column, scenario, arm) to outcome; and column to scenario to its folder, relative.
        """
        tasks: list[_Task] = []
        places: list[tuple[str, Path]] = []
        for column in self._columns.values():
            for number, part in enumerate(self._parts(), 1):
                place = Path("runs") / column.name / f"{number}"
                sources = [self._sources[name] for name in part]
                tasks.append((column, driver.whole(column, sources, self._seed, self._folder.resolve() / place)))
                places.append((column.name, place))
        outcomes: dict[tuple[str, str, str], Outcome] = {}
        folders: dict[str, dict[str, str]] = {column: {} for column in self._columns}
        parts = self._parts() * len(self._columns)
        for (column_name, place), part, result in zip(places, parts, self._carry_out(tasks, jobs, on_arm), strict=True):
            for answer in result["answers"]:
                if "folders" in answer:
                    folders[column_name] |= {name: str(place / folder) for name, folder in answer["folders"].items()}
                else:
                    outcomes[column_name, answer["scenario"], answer["arm"]] = answer
            for name in part:
                for arm in self._arms(name):
                    outcomes.setdefault((column_name, name, arm), _missing(result))
        return outcomes, folders

    def _decide(self, found: Sequence[Difference], jobs: int, on_arm: OnArm) -> None:
        """Repeat the arms of `found` with fresh seeds until each step is decided."""
        seen: dict[tuple[str, str, str], list[Outcome]] = {}
        before = 0
        for look in looks(self._seeds):
            wanted = dict.fromkeys(
                (column, difference.scenario, difference.arm)
                for difference in found
                for column in self._columns
                if column in difference.open_columns()
            )
            tasks, whose = [], []
            for seed in range(self._seed + 1 + before, self._seed + 1 + look):
                for column in self._columns.values():
                    arms = [(name, arm) for on, name, arm in wanted if on == column.name]
                    for start in range(0, len(arms), ARMS_A_BOOT):
                        part = arms[start : start + ARMS_A_BOOT]
                        listed = [(self._sources[name], arm) for name, arm in part]
                        tasks.append((column, driver.repeated(column, listed, seed)))
                        whose.append((column.name, part))
            for (column_name, part), result in zip(whose, self._carry_out(tasks, jobs, on_arm), strict=True):
                answers = [*result["answers"], *[_missing(result)] * len(part)]
                for (name, arm), outcome in zip(part, answers, strict=False):
                    seen.setdefault((column_name, name, arm), []).append(outcome)
            for difference in found:
                names = difference.open_columns()
                values = {
                    name: self._values(difference, seen[name, difference.scenario, difference.arm]) for name in names
                }
                difference.look(values, look == self._seeds)
            before = look

    @staticmethod
    def _values(difference: Difference, outcomes: Sequence[Outcome]) -> list[Any]:
        return [facts_of(outcome).get(difference.fact) for outcome in outcomes]

    def _carry_out(self, tasks: Sequence[_Task], jobs: int, on_arm: OnArm) -> Iterator[dict[str, Any]]:
        """Have those of `tasks` carried out that are not done; yields the result of each, in order.

        A result is ``answers`` and ``error``. It is kept once its task is done as a whole.
        """
        results, keys = self.progress.done, [_key(*task) for task in tasks]
        for host in (False, True):
            numbers = [
                n for n, (column, _) in enumerate(tasks) if (column.engine == HOST) == host and keys[n] not in results
            ]
            answers: dict[int, list[Any]] = {number: [] for number in numbers}
            ordered = [tasks[number][1] for number in numbers]
            for index, answer in pool.answers(driver.DRIVER, ordered, 1 if host else jobs):
                number = numbers[index]
                column, task = tasks[number]
                if isinstance(answer, pool.Ended):
                    self.progress.record(keys[number], {"answers": answers[number], "error": answer.error})
                    continue
                answers[number].append(answer)
                if "folders" not in answer:
                    self.done += 1
                    on_arm(column.name, _words(task, answer, len(answers[number]) - 1))
        return iter([results[key] for key in keys])

    def _parts(self) -> list[list[str]]:
        """Return the names of the scenarios, a list for each boot.

        They depend on the scenarios alone: what an arm observes may depend on the arms before it.
        """
        parts: list[list[str]] = []
        count = ARMS_A_BOOT
        for name in self._sources:
            if count + len(self._arms(name)) > ARMS_A_BOOT:
                parts.append([])
                count = 0
            parts[-1].append(name)
            count += len(self._arms(name))
        return parts

    def _arms(self, name: str) -> list[str]:
        return next(list(scenario.arms) for _, scenario in self._scenarios if scenario.name == name)

    def _tidy(self, folders: dict[str, dict[str, str]], differing: set[str]) -> dict[str, dict[str, str]]:
        """Remove the folders of scenarios in which nothing differs; return the others."""
        kept = {
            column: {name: path for name, path in of.items() if name in differing} for column, of in folders.items()
        }
        for column, of in folders.items():
            for name, path in of.items():
                if name not in kept[column]:
                    shutil.rmtree(self._folder / path, ignore_errors=True)
                    parent = (self._folder / path).parent
                    if parent.is_dir() and not os.listdir(parent):
                        parent.rmdir()
        return kept

    def _release(self, column: Column, outcomes: dict[tuple[str, str, str], Outcome]) -> str:
        said = (outcome.get("kernel") for (name, *_), outcome in outcomes.items() if name == column.name)
        return str(next(filter(None, said), column.release))


def _key(column: Column, task: dict[str, Any]) -> int:
    """Return the number by which the results of a task are kept; the same for the same runs."""
    runs = [column.release, *(task.get(name) for name in ("engine", "kernel", "world", "sources", "arms", "seed"))]
    return int.from_bytes(hashlib.sha256(json.dumps(runs).encode()).digest()[:6])


def _missing(result: dict[str, Any]) -> Outcome:
    """Return the outcome of an arm that a task has not answered for: an error, in any case."""
    unanswered = EngineError("the run ended without an outcome of this arm", slug="worker-ended-early")
    return {"error": result["error"] or unanswered.as_dict()}


def _words(task: dict[str, Any], answer: dict[str, Any], number: int) -> str:
    if "arms" in task:
        source, arm, _ = task["arms"][number]
        return f"{source} {arm}, seed {task['seed']}"
    return f"{answer['scenario']} {answer['arm']}"
