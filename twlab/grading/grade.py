"""Grades a class: runs the tasks, and keeps each grade once it is complete."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import twlab
from twlab.engines import kernel_path, pool
from twlab.errors import CapabilityError
from twlab.grading.assignment import Assignment
from twlab.grading.gradebook import Grade, Gradebook
from twlab.grading.marks import Mark, mark
from twlab.grading.scenario_mark import mark_scenario
from twlab.grading.submission import Submission
from twlab.grading.tasks import Task, key, tasks_for

TaskResult = dict[str, Any]  # of `twlab.grading.driver`
_LOST: TaskResult = {"outcomes": {}, "report": {"unchecked": "the process that drove its lab kernel ended early"}}


def new_gradebook(assignment: Assignment) -> Gradebook:
    """Return an empty gradebook.

    Raises:
        CapabilityError: there is no lab kernel (``no-lab-kernel``).
    """
    basis = {
        "assignment": assignment.digest,
        "seed": assignment.seed,
        "twlab": twlab.__version__,
        "lab_kernel": kernel_path().parent.name,
    }
    return Gradebook(assignment.title, basis)


def grade(
    assignment: Assignment,
    submissions: Sequence[Submission],
    book: Gradebook,
    *,
    jobs: int,
    scheduler: str = "",
    on_grade: Callable[[Grade], None] = lambda grade: None,
) -> None:
    """Grade those of `submissions` that `book` lacks.

    Args:
        jobs: lab kernels side by side.
        on_grade: called after each grade, which the book then has.
        scheduler: of a Dask cluster, see `twlab.engines.pool.answers`.

    Raises:
        CapabilityError: this machine cannot run a lab kernel.
    """
    waiting = {submission.id: submission for submission in submissions if submission.id not in book.grades}
    needs = {name: tasks_for(assignment, submission) for name, submission in waiting.items()}
    wanted: dict[str, Task] = {}
    lacks: dict[str, set[str]] = {}  # of each student, the keys of the tasks that are not done
    needed_by: dict[str, list[str]] = {}
    for name, tasks in needs.items():
        keyed = {key(task): task for task in tasks.values()}
        wanted |= keyed
        lacks[name] = set(keyed)
        for one in keyed:
            needed_by.setdefault(one, []).append(name)
    found: dict[str, Any] = {}

    def settle(names: Iterable[str]) -> None:
        for name in [name for name in names if not lacks[name]]:
            tasks = needs.pop(name)
            book.grades[name] = _grade(assignment, waiting.pop(name), tasks, found)
            on_grade(book.grades[name])
            for one in set(map(key, tasks.values())):
                needed_by[one].remove(name)
                if not needed_by[one]:
                    del found[one]  # what a large class has shown would fill the memory

    settle(list(waiting))
    for done, result in results(list(wanted.values()), jobs, scheduler):
        found[done] = result
        for name in needed_by[done]:
            lacks[name].remove(done)
        settle(needed_by[done])


def results(tasks: Sequence[Task], jobs: int, scheduler: str = "") -> Iterator[tuple[str, TaskResult]]:
    """Yield the key and the result of each of `tasks`, as they are done.

    Args:
        jobs, scheduler: see `grade`.

    Raises:
        CapabilityError: this machine cannot run a lab kernel.
    """
    found: dict[int, TaskResult] = {}
    for number, answer in pool.answers("twlab.grading.driver", tasks, jobs, scheduler):
        if not isinstance(answer, pool.Ended):
            found[number] = answer
            continue
        error = answer.error or {}
        if error.get("kind") == CapabilityError.__name__:
            raise CapabilityError(error["message"], error["remedy"], error["slug"])
        yield key(tasks[number]), found.pop(number, _LOST)


def _grade(
    assignment: Assignment, submission: Submission, tasks: Mapping[str, Task], found: Mapping[str, Any]
) -> Grade:
    numbers = assignment.numbers_for(submission.id)

    def marked(question: Any) -> Mark:
        result = found[key(tasks[question.id])] if question.id in tasks else {}
        if question.kind == "scenario":
            return mark_scenario(question, submission, numbers, result.get("report", {}))
        return mark(question, submission, numbers, result.get("outcomes", {}))

    marks = [marked(question) for question in assignment.questions]
    known = {question.id for question in assignment.questions}
    reasons = {name: text for name, text in submission.reasons.items() if name in known}
    return Grade(submission.id, submission.name, submission.digest, numbers, marks, reasons)


def output_files(path: Path) -> tuple[Path, Path]:
    """Return the paths of JSON and CSV, side by side; `path` names either."""
    return path.with_suffix(".json"), path.with_suffix(".csv")
