"""The mark of a student's own scenario, from what the examiner in the lab kernel reports. Pure, and it takes nothing for granted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twlab.grading.assignment import Question, filled
from twlab.grading.marking import Mark
from twlab.grading.submission import Submission
from twlab.grading.words import plainly
from twlab.observation import Observation, Range
from twlab.scenario import Verdict, judge
from twlab.settings import Settings

CRITERIA = ("loads", "control holds", "supported", "can fail")
Report = Mapping[str, Any]  # see `twlab.grading.examiner`


def mark_scenario(question: Question, submission: Submission, numbers: Mapping[str, Any], report: Report) -> Mark:
    """A quarter of the points for each of `CRITERIA`, as far as they are met one after the other."""
    said = plainly(str(submission.answers.get(question.id, "")))
    problem = f"the submission {submission.problem}" if submission.problem else ""
    if not problem and question.id in submission.refused:
        problem = f"the file {submission.refused[question.id]}"
    elif not problem and question.id not in submission.scenarios:
        problem = "not answered"
    if problem:
        return Mark(question.id, question.kind, 0.0, question.points, said, remark=problem)
    try:
        met, problem = _examine(report, {key: filled(value, numbers) for key, value in question.uses.items()})
    except Exception as error:  # the report comes from a kernel that ran a stranger's code: anything may be in it
        met, problem = 0, f"the report of the lab kernel is broken ({type(error).__name__})"
    shown = ", ".join(CRITERIA[:met]) or "nothing"
    return Mark(question.id, question.kind, round(question.points * met / len(CRITERIA), 2), question.points, said, shown, plainly(problem, 240))


def _examine(report: Report, uses: Mapping[str, Any]) -> tuple[int, str]:
    """How many criteria are met, and why no more."""
    if report.get("problem"):
        return 0, str(report["problem"])
    described, ran = report["described"]["arms"], report["arms"]
    roles = {name: str(arm["role"]) for name, arm in described.items()}
    wrong = {name: _wrong(described[name], ran.get(name, {})) for name in described}
    for name, problem in wrong.items():
        if roles[name] == "control" and problem:
            return 1, f"{name}: {problem}"
    if judge(roles, {name: not problem for name, problem in wrong.items()}) is not Verdict.SUPPORTED or len(roles) < 2:
        return 2, next((f"{name}: {problem}" for name, problem in wrong.items() if problem), "there is no treatment")
    treatments = [name for name, role in roles.items() if role == "treatment"]
    if problem := _lacks(uses, [described[name] for name in treatments]):
        return 2, problem
    problem = _cannot_fail(report, described, ran, treatments)
    return (3, problem) if problem else (4, "")


def _wrong(described: Mapping[str, Any], ran: Mapping[str, Any]) -> str:
    """Why the arm does not count as one that went as predicted; empty when it does."""
    if not ran or ran["problem"]:
        return str(ran.get("problem", "was not run, because one before it was ended"))
    evidence = ran["evidence"]
    if evidence["differs"]:
        return f"is not set as it says: {', '.join(map(str, evidence['differs']))}"
    if not evidence["segments"]:
        return "no TCP segment was received by any node"
    mismatches = _prediction(described).mismatches(ran["observed"])
    return "; ".join(mismatches)


def _prediction(described: Mapping[str, Any]) -> Observation:
    ranges = {key: Range(value["low"], value["high"]) if isinstance(value, dict) else value for key, value in described["expect"].items()}
    return Observation(**ranges)


def _lacks(uses: Mapping[str, Any], treatments: list[Mapping[str, Any]]) -> str:
    """The settings were in force, so that what is described is what the kernel had."""
    wanted = Settings(**uses).as_dict()
    for key, value in wanted.items():
        if not any(node.get(key) == value for arm in treatments for node in arm["nodes"].values()):
            return f"no treatment has {key}={value:g}" if isinstance(value, float) else f"no treatment has {key}={value}"
    return ""


def _cannot_fail(report: Report, described: Mapping[str, Any], ran: Mapping[str, Any], treatments: list[str]) -> str:
    """Why the claim would have come out whatever the kernel did; empty when it could have failed."""
    if report["deceived"]:
        # That the kernel is not set as the arm says is what was done to it.
        ends = {name: {**outcome, "evidence": {**outcome["evidence"], "differs": []}} for name, outcome in report["deceived"].items()}
        if any(_wrong(described[name], outcome) for name, outcome in ends.items()):
            return ""
        return "it observes what it predicts even where the kernel was as in the control: it does not look"
    control = next(name for name, arm in described.items() if arm["role"] == "control")
    if any(_prediction(described[control]).mismatches(ran[name]["observed"]) for name in treatments):
        return ""
    return "control and treatment do not differ, neither in what the kernel has nor in what is observed"
