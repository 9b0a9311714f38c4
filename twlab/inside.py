"""The agent inside an engine: carries out one request of arms, one after the other, and reports events.

A request is one JSON object on standard input:

    {"jobs": [{"scenario": "stale-data", "arm": "control", "folder": "/.../runs/...", "set": ["time_wait_s=1"]}, ...],
     "seed": 1, "engine": "host"}

Events are JSON objects, one a line, on standard output; `event` says which:

    start   a job begins: job (its index)
    entry   something happened, for live progress: job, and the fields of a transcript entry
    pulse   how the lab does: job, and the fields of `twlab.stage.Vitals`
    arm     a job is done: job, result (see `twlab.result`)
    end     all jobs are done

Standard output belongs to events alone; whatever else is printed goes to standard error.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twlab.arm import as_dict, run_arm
from twlab.scenario import Overrides, find_scenario

Event = dict[str, Any]


def carry_out(request: dict[str, Any], emit: Callable[[Event], None]) -> None:
    """Run every job of `request`. What goes wrong in one arm is that arm's result; the next ones still run."""
    for index, job in enumerate(request["jobs"]):
        emit({"event": "start", "job": index})
        emit({"event": "arm", "job": index, "result": _run(job, index, request, emit)})
    emit({"event": "end"})


def _run(job: dict[str, Any], index: int, request: dict[str, Any], emit: Callable[[Event], None]) -> dict[str, Any]:
    try:
        scenario = find_scenario(job["source"])
        overrides = Overrides.parse(job["set"], [scenario])
        return run_arm(
            scenario,
            job["arm"],
            overrides,
            seed=request["seed"],
            folder=Path(job["folder"]),
            forced=request.get("mechanisms", {}),
            listener=lambda entry: emit({"event": "entry", "job": index, **entry.as_dict()}),
            pulse=lambda vitals: emit({"event": "pulse", "job": index, **vitals._asdict()}),
        )
    except Exception as error:  # before the steps began, or in the lab itself: the other arms still run
        return {"error": as_dict(error)}


def main() -> None:
    """Read the request, have the agent named on the command line carry it out (without one: this module), end."""
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def emit(event: Event) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    request = json.load(sys.stdin)
    agent = importlib.import_module(sys.argv[1]) if sys.argv[1:] and sys.argv[1] != "twlab.inside" else sys.modules[__name__]
    agent.carry_out(request, emit)


if __name__ == "__main__":
    main()
