"""The tasks of grading: what has to be run in a lab kernel.

Each check is a separate task with a separate boot, so that its result is the same alone and in a
class: what the kernel draws at random depends on what it has done before. Students with the same
numbers share a task."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from twlab.grading.assignment import Assignment, Question, pairs
from twlab.grading.submission import Submission

Task = dict[str, Any]


def trial_of(question: Question, numbers: Mapping[str, Any], seed: int) -> Task | None:
    """Return the task that checks an answer to `question`; None: nothing to run."""
    if not question.source:
        return None
    arms = list(dict.fromkeys([question.role_arm, *question.arms]))
    return {
        "kind": "trial",
        "source": question.source,
        "arms": arms,
        "sets": pairs(question.sets, numbers),
        "seed": seed,
    }


def examination_of(question: Question, submission: Submission, seed: int) -> Task | None:
    """Return the task that examines the student's scenario; None: there is no file."""
    text = submission.scenarios.get(question.id)
    return None if text is None else {"kind": "examination", "text": text, "seed": seed}


def tasks_for(assignment: Assignment, submission: Submission) -> dict[str, Task]:
    """Return, for each question, what has to be run."""
    if submission.problem:
        return {}
    numbers = assignment.numbers_for(submission.id)
    found = {
        question.id: examination_of(question, submission, assignment.seed)
        if question.kind == "scenario"
        else trial_of(question, numbers, assignment.seed)
        for question in assignment.questions
    }
    return {question: task for question, task in found.items() if task}


def key(task: Task) -> str:
    """The same for the same task."""
    return json.dumps(task, sort_keys=True)
