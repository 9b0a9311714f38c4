"""Drives the boots of grading: carries out `twlab.grading.tasks`, one answer each.

The answer to a trial is ``{"outcomes": {arm: outcome}}``, to an examination ``{"report": ...}``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twlab.catalogue import parse_overrides
from twlab.engines import jobs
from twlab.engines.guest.engine import Guest
from twlab.engines.pool import Answer
from twlab.engines.protocol import Event, Job, OnEvent, arms_request
from twlab.engines.scratch import scratch_folder
from twlab.errors import EngineError
from twlab.grading.jail import GONE
from twlab.grading.tasks import Task
from twlab.run.runner import AGENT

PROCESSOR_LIMIT_S = 15  # of each process of a lab kernel that runs untrusted code
REAL_LIMIT_S = 120.0  # for all that it does; generous, so that a busy machine costs no points
_MEMORY_MIB = 320
_TRIAL_LIMIT_S = 300.0
TaskResult = dict[str, Any]


def carry_out(task: Task, answer: Answer) -> None:
    """Carry out `task`; raises CapabilityError: this machine cannot run a lab kernel."""
    answer(result_of(task))


def result_of(task: Task) -> TaskResult:
    """Return the answer to `task`."""
    with scratch_folder() as folder:
        return _examination(task, folder) if task["kind"] == "examination" else _trial(task, folder)


def _trial(task: Task, folder: Path) -> TaskResult:
    """Run scenarios of the teacher's, as `twlab run` does."""
    outcomes: dict[str, Any] = {}
    changed = parse_overrides(task["source"], task["sets"]).as_dict()

    def boot(arms: Sequence[str], on_event: OnEvent) -> None:
        left = [Job(source=task["source"], arm=arm, folder=str(folder), set=changed) for arm in arms]
        request = arms_request(left, seed=task["seed"])
        Guest(agent=AGENT, traced=True).run(request, folder, on_event, _TRIAL_LIMIT_S)

    def on_event(event: Event, arm: str | None) -> None:
        if arm is not None and event["event"] == "arm":
            shown = {name: event["result"].get(name) for name in ("observed", "error")}
            outcomes[arm] = {**shown, "kernel": event.get("kernel")}

    jobs.carry_out(task["arms"], boot, on_event)
    return {"outcomes": outcomes}


def _examination(task: Task, folder: Path) -> TaskResult:
    """Examine a student's scenario in a confined guest.

    Once the scenario has begun, it is to blame for the end of the kernel.
    """
    guest = Guest(agent="twlab.grading.agent", memory_mib=_MEMORY_MIB, processor_s=PROCESSOR_LIMIT_S)
    for _ in range(2):
        examination = Examination()
        try:
            guest.run({"text": task["text"], "seed": task["seed"]}, folder, examination.on_event, REAL_LIMIT_S)
        except EngineError as error:
            if not examination.begun:  # no untrusted code has run yet
                examination.unchecked = f"no lab kernel came up for it: {error.message}"
                continue
            examination.broken()
        break
    return {"report": examination.as_dict()}


class Examination:
    """The events of an examination, so far.

    Attributes:
        problem: why there is nothing to judge; empty when there is something.
        unchecked: why that is not the student's fault; empty if it may be.
        described: the scenario.
        arms, placebo: arm to outcome.
    """

    def __init__(self) -> None:
        self.begun = False
        self.problem = GONE
        self.unchecked = ""
        self.described: dict[str, Any] | None = None
        self.arms: dict[str, Any] = {}
        self.placebo: dict[str, Any] = {}
        self._under_way: tuple[str, bool] | None = None

    def on_event(self, event: dict[str, Any]) -> None:
        """Record one event."""
        if event["event"] == "begin":
            self.begun = True
        elif event["event"] == "described":
            self.described, self.problem = event["scenario"], event["problem"]
        elif event["event"] == "try":
            self._under_way = event["arm"], event["placebo"]
        elif event["event"] == "outcome":
            self._record(event["outcome"])

    def as_dict(self) -> TaskResult:
        return {
            "problem": self.problem,
            "unchecked": self.unchecked,
            "described": self.described,
            "arms": self.arms,
            "placebo": self.placebo,
        }

    def broken(self) -> None:
        """Record that the kernel ended: that is the outcome of the arm under way."""
        if self._under_way:
            self._record({"problem": GONE, "ended": True})

    def _record(self, outcome: dict[str, Any]) -> None:
        assert self._under_way
        arm, placebo = self._under_way
        (self.placebo if placebo else self.arms)[arm] = outcome
        self._under_way = None
