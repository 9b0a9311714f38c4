"""Marks a student's scenario from the examiner's report.

The report comes from a kernel that ran untrusted code, so nothing in it is trusted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twlab.grading.assignment import Question, filled
from twlab.grading.marks import Mark, unchecked
from twlab.grading.submission import Submission
from twlab.grading.untrusted_text import plainly
from twlab.observation import Observation, Range
from twlab.scenario import Verdict, judge
from twlab.settings import Settings

CRITERIA = ("loads", "control holds", "can fail", "supported")
Report = Mapping[str, Any]  # see `twlab.grading.driver.Examination`


def mark_scenario(question: Question, submission: Submission, numbers: Mapping[str, Any], report: Report) -> Mark:
    """Give a quarter of the points for each of `CRITERIA` that is met.

    The criteria are checked in order, and the first that is not met ends the check.
    """
    said = plainly(str(submission.answers.get(question.id, "")))
    problem = f"the submission {submission.problem}" if submission.problem else ""
    if not problem and question.id in submission.refused:
        problem = f"the file {submission.refused[question.id]}"
    elif not problem and question.id not in submission.scenarios:
        problem = "not answered"
    if problem:
        return Mark(question.id, question.kind, 0.0, question.points, said, remark=problem)
    if reason := report.get("unchecked"):  # the driver says so, and not the kernel that ran the file
        return unchecked(question, said, plainly(str(reason), 240))
    try:
        met, problem = _examine(report, {key: filled(value, numbers) for key, value in question.uses.items()})
    except Exception as error:  # the report is not trusted: anything may be in it
        met, problem = 0, f"the report of the lab kernel is broken ({type(error).__name__})"
    shown = ", ".join(CRITERIA[:met]) or "nothing"
    return Mark(
        question.id,
        question.kind,
        round(question.points * met / len(CRITERIA), 2),
        question.points,
        said,
        shown,
        plainly(problem, 240),
    )


def _examine(report: Report, uses: Mapping[str, Any]) -> tuple[int, str]:
    """Return how many criteria are met, and why no more."""
    if report.get("problem"):
        return 0, f"it does not load: {report['problem']}"
    described, ran = report["described"]["arms"], report["arms"]
    roles = {name: str(arm["role"]) for name, arm in described.items()}
    control = next(name for name, role in roles.items() if role == "control")
    treatments = [name for name, role in roles.items() if role == "treatment"]
    unusable = {name: _unusable(ran.get(name, {})) for name in described}
    wrong = {name: unusable[name] or _refuted(described[name], ran[name]) for name in described}
    if wrong[control]:
        return 1, f"{control}: {wrong[control]}"
    if not treatments or any(unusable[name] for name in treatments):
        return 2, next((f"{name}: {unusable[name]}" for name in treatments if unusable[name]), "there is no treatment")
    if not any(wrong[name] for name in treatments) and (
        problem := _cannot_fail(report, described, ran, control, treatments)
    ):
        return 2, problem
    if judge(roles, {name: not problem for name, problem in wrong.items()}) is not Verdict.SUPPORTED:
        return 3, next(f"{name}: {problem}" for name, problem in wrong.items() if problem)
    problem = _lacks(uses, [described[name] for name in treatments])
    return (3, problem) if problem else (4, "")


def _unusable(ran: Mapping[str, Any]) -> str:
    """Return why nothing can be said from the arm; empty if something can."""
    if not ran or ran["problem"]:
        return str(ran.get("problem", "was not run, because one before it was ended"))
    if ran["evidence"]["differs"]:
        return f"is not set as it says: {', '.join(map(str, ran['evidence']['differs']))}"
    return "" if ran["evidence"]["segments"] else "no TCP segment was received by any node"


def _refuted(described: Mapping[str, Any], ran: Mapping[str, Any]) -> str:
    return "; ".join(_prediction(described).mismatches(ran["observed"]))


def _prediction(described: Mapping[str, Any]) -> Observation:
    ranges = {
        key: Range(value["low"], value["high"]) if isinstance(value, dict) else value
        for key, value in described["expect"].items()
    }
    return Observation(**ranges)


def _lacks(uses: Mapping[str, Any], treatments: list[Mapping[str, Any]]) -> str:
    """Return which of the settings `uses` no treatment has; empty if none is missing.

    The examiner has checked that the kernel has what a treatment describes.
    """
    wanted = Settings(**uses).as_dict()
    for key, value in wanted.items():
        if not any(node.get(key) == value for arm in treatments for node in arm["nodes"].values()):
            return (
                f"no treatment has {key}={value:g}" if isinstance(value, float) else f"no treatment has {key}={value}"
            )
    return ""


def _cannot_fail(
    report: Report, described: Mapping[str, Any], ran: Mapping[str, Any], control: str, treatments: list[str]
) -> str:
    """Return why the claim would hold in any kernel; empty when it could have failed."""
    if report["placebo"]:
        if any(outcome["problem"] or _refuted(described[name], outcome) for name, outcome in report["placebo"].items()):
            return ""
        return "it observes what it predicts even where the kernel was as in the control: it does not look"
    if any(_refuted(described[control], ran[name]) for name in treatments):
        return ""
    return "control and treatment do not differ, neither in what the kernel has nor in what is observed"
