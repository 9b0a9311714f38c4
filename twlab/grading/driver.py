"""Carries out tasks in lab kernels, one boot each: a JSON task a line on standard input, a JSON
result a line on standard output.

A trial's result is ``{"outcomes": {arm: outcome}, "kernel": ...}``, an examination's ``{"report":
...}``; where this machine cannot run a lab kernel it is ``{"error": ...}`` (see
`twlab.errors.LabError.as_dict`).
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from twlab.engines.guest.engine import Guest
from twlab.engines.protocol import Job, arms_request
from twlab.errors import CapabilityError, EngineError
from twlab.grading.jail import GONE
from twlab.linux.syscalls import die_with_parent
from twlab.run.runner import AGENT

PROCESSOR_LIMIT_S = 15  # of each process of a stranger's lab kernel
REAL_LIMIT_S = 120.0  # for all that it does: far away, so that a busy machine costs nobody's points
_MEMORY_MIB = 320
_TRIAL_LIMIT_S = 300.0
Result = dict[str, Any]


def carry_out(task: dict[str, Any]) -> Result:
    """The result of one task."""
    with tempfile.TemporaryDirectory(prefix="twlab-grade-") as folder:
        try:
            return _examination(task, Path(folder)) if task["kind"] == "examination" else _trial(task, Path(folder))
        except CapabilityError as error:
            return {"error": error.as_dict()}


def _trial(task: dict[str, Any], folder: Path) -> Result:
    """Scenarios of the teacher's, run as `twlab run` runs them."""
    jobs = [Job(source=task["source"], arm=arm, folder=str(folder), set=task["sets"]) for arm in task["arms"]]
    outcomes: dict[str, Any] = {}

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "arm":
            outcomes[task["arms"][event["job"]]] = {
                name: event["result"].get(name) for name in ("observed", "error", "kernel")
            }

    try:
        guest = Guest(agent=AGENT, traced=True)
        guest.run(arms_request(jobs, seed=task["seed"]), folder, on_event, _TRIAL_LIMIT_S)
    except EngineError as error:
        outcomes |= {arm: {"error": error.as_dict()} for arm in task["arms"] if arm not in outcomes}
    return {"outcomes": outcomes}


def _examination(task: dict[str, Any], folder: Path) -> Result:
    """A stranger's scenario. Once it has begun, whatever becomes of the kernel is its own doing."""
    guest = Guest(agent="twlab.grading.agent", memory_mib=_MEMORY_MIB, processor_s=PROCESSOR_LIMIT_S)
    examination = Examination()
    for _ in range(2):
        try:
            guest.run({"text": task["text"], "seed": task["seed"]}, folder, examination.on_event, REAL_LIMIT_S)
        except EngineError as error:
            if not examination.begun:  # nothing of the stranger's has run yet
                examination.problem = f"no lab kernel came up for it: {error.message}"
                continue
            examination.broken()
        break
    return {"report": examination.as_dict()}


class Examination:
    """What the examiner has told, so far.

    Attributes:
        problem: why there is nothing to judge; empty when there is.
        described: the scenario.
        arms, deceived: arm to outcome.
    """

    def __init__(self) -> None:
        self.begun = False
        self.problem = GONE
        self.described: dict[str, Any] | None = None
        self.arms: dict[str, Any] = {}
        self.deceived: dict[str, Any] = {}
        self._under_way: tuple[str, bool] | None = None

    def on_event(self, event: dict[str, Any]) -> None:
        """Take down one event."""
        if event["event"] == "begin":
            self.begun = True
        elif event["event"] == "described":
            self.described, self.problem = event["scenario"], event["problem"]
        elif event["event"] == "try":
            self._under_way = event["arm"], event["deceived"]
        elif event["event"] == "outcome":
            self._record(event["outcome"])

    def as_dict(self) -> Result:
        return {"problem": self.problem, "described": self.described, "arms": self.arms, "deceived": self.deceived}

    def broken(self) -> None:
        """The kernel is gone: that is what came of the arm under way, as if only its process were."""
        if self._under_way:
            self._record({"problem": GONE, "ended": True})

    def _record(self, outcome: dict[str, Any]) -> None:
        assert self._under_way
        arm, deceived = self._under_way
        (self.deceived if deceived else self.arms)[arm] = outcome
        self._under_way = None


def main() -> None:
    """Carry out one task after the other, until there are no more; end with the process that
    started us.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    die_with_parent(signal.SIGTERM)
    for line in sys.stdin:
        print(json.dumps(carry_out(json.loads(line))), flush=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # all is told, and Python's end is no place to be interrupted in


if __name__ == "__main__":
    main()
