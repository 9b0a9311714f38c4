"""From what a student claims and what the lab kernel showed to points. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from twlab.grading import formula
from twlab.grading.assignment import Question
from twlab.grading.submission import Submission
from twlab.grading.untrusted_text import claimed, plainly
from twlab.observation import same_text

_NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?([eE][+-]?[0-9]{1,2})?(/[0-9]{1,15})?")
_YES, _NO = {"yes", "true", "on"}, {"no", "false", "off"}
Outcomes = Mapping[str, Mapping[str, Any]]  # arm to the outcome of `twlab.run.arm.run_arm`


@dataclass(frozen=True)
class Mark:
    """What one question came to.

    Attributes:
        points: None where twlab gives none: an open question, or one that could not be checked.
        of: the most there could have been.
        claimed: the answer.
        shown: what the lab kernel showed, or the formula came to.
        remark: why, where that does not say it.
        unchecked: it is not the student's fault that there are no points.
    """

    question: str
    kind: str
    points: float | None
    of: float
    claimed: str = ""
    shown: str = ""
    remark: str = ""
    unchecked: bool = False


class _UnansweredError(Exception):
    """There is no answer to be judged, and why."""


class _UncheckableError(Exception):
    """The lab did not show what the question is about."""


def mark(question: Question, submission: Submission, numbers: Mapping[str, Any], outcomes: Outcomes) -> Mark:
    """Mark any question but a ``scenario`` (see `twlab.grading.scenario_mark`).

    Args:
        outcomes: of the arms that `twlab.grading.tasks.trial_of` asked for; empty where it asked
        for
            none.
    """
    if submission.problem:
        points = None if question.kind == "open" else 0.0
        return Mark(question.id, question.kind, points, question.points, remark=f"the submission {submission.problem}")
    answer = submission.answers.get(question.id)
    said = claimed(answer) if answer is not None else ""
    if question.kind == "open":
        return Mark(question.id, question.kind, None, question.points, said, remark="" if said else "not answered")
    try:
        judge = {"prediction": _prediction, "number": _number, "choice": _choice}[question.kind]
        share, shown, remark = judge(question, answer, numbers, outcomes)
        return Mark(question.id, question.kind, round(question.points * share, 2), question.points, said, shown, remark)
    except _UnansweredError as unanswered:
        return Mark(question.id, question.kind, 0.0, question.points, said, remark=str(unanswered))
    except _UncheckableError as uncheckable:
        return unchecked(question, said, str(uncheckable))


def unchecked(question: Question, said: str, reason: str) -> Mark:
    """Return the mark of a question that could not be checked."""
    remark = f"could not be checked: {reason}"
    return Mark(question.id, question.kind, None, question.points, said, remark=remark, unchecked=True)


def agrees(answer: Any, shown: Any, tolerance: float) -> bool:
    """Return whether an answer is what was shown.

    Args:
        tolerance: share by which numbers may differ.
    """
    if isinstance(shown, bool):
        return truth(answer) is shown
    if isinstance(shown, int | float):
        number = number_in(answer)
        return number is not None and abs(number - shown) <= tolerance * abs(shown) + 1e-12 * max(1.0, abs(shown))
    return isinstance(answer, str) and same_text(answer, str(shown))


def truth(answer: Any) -> bool | None:
    """Return yes or no, as people write it; None: neither."""
    if isinstance(answer, str):
        return True if answer.strip().casefold() in _YES else False if answer.strip().casefold() in _NO else None
    return answer if isinstance(answer, bool) else None


def number_in(answer: Any) -> float | None:
    """Return the number that an answer is; None: not a number.

    Text such as ``"1/3"`` is a number, too.
    """
    try:
        if isinstance(answer, str):
            text = answer.strip()
            if not _NUMBER.fullmatch(text):
                return None
            over, _, under = text.partition("/")
            number = float(Fraction(over) / Fraction(under or "1"))
        elif isinstance(answer, int | float) and not isinstance(answer, bool):
            number = float(answer)
        else:
            return None
    except (OverflowError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) else None


def _prediction(question: Question, answer: Any, _: Mapping[str, Any], outcomes: Outcomes) -> tuple[float, str, str]:
    facts = _facts(outcomes, question.role_arm)
    if question.fact not in facts:
        raise _UncheckableError(f"the arm {question.role_arm} shows no {question.fact}")
    _require_answer(answer)
    shown = facts[question.fact]
    return float(agrees(answer, shown, question.tolerance)), f"{question.fact} = {claimed(shown) or 'none'}", ""


def _number(question: Question, answer: Any, numbers: Mapping[str, Any], outcomes: Outcomes) -> tuple[float, str, str]:
    facts = _facts(outcomes, question.role_arm) if question.source else {}
    try:
        value = formula.value(question.formula, {**facts, **numbers})
    except ValueError as error:
        raise _UncheckableError(str(error)) from None
    _require_answer(answer)
    remark = "" if number_in(answer) is not None else "the answer is no number"
    return float(agrees(answer, value, question.tolerance)), f"{value:.6g}", remark


def _choice(question: Question, answer: Any, _: Mapping[str, Any], outcomes: Outcomes) -> tuple[float, str, str]:
    harmed = _facts(outcomes, question.role_arm)
    if lacking := sorted(set(question.safe) - set(harmed)):
        raise _UncheckableError(f"the arm {question.role_arm} shows no {lacking[0]}")
    if _shows(question.safe, harmed):
        raise _UncheckableError(f"the arm {question.role_arm} shows no harm that could be stopped")
    helping = {arm for arm in question.arms if _shows(question.safe, _facts(outcomes, arm))}
    _require_answer(answer)
    if not isinstance(answer, list) or not all(isinstance(name, str) for name in answer):
        raise _UnansweredError("the answer is no list of names")
    unknown = sorted(set(answer) - set(question.arms))
    right = sum((arm in answer) == (arm in helping) for arm in question.arms)
    share = max(0.0, (2 * right - len(question.arms) - len(unknown)) / len(question.arms))
    remark = f"{len(unknown)} chosen that could not be" if unknown else ""
    return share, f"these help: {', '.join(arm for arm in question.arms if arm in helping) or 'none'}", remark


def _facts(outcomes: Outcomes, arm: str) -> Mapping[str, Any]:
    outcome = outcomes.get(arm, {})
    if outcome.get("observed"):
        return outcome["observed"]
    raise _UncheckableError(plainly((outcome.get("error") or {}).get("message", f"the arm {arm} did not run")))


def _shows(facts: Mapping[str, Any], observed: Mapping[str, Any]) -> bool:
    return all(name in observed and agrees(value, observed[name], 0.0) for name, value in facts.items())


def _require_answer(answer: Any) -> None:
    if answer is None or answer == "":
        raise _UnansweredError("not answered")
