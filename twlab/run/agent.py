"""Runs arms inside an engine, one after the other, and reports events.

Requests and events are those of `twlab.engines.protocol`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twlab.catalogue import scenario_here
from twlab.engines.protocol import Event, Job, Request
from twlab.lab.undisturbed import run_arm_undisturbed
from twlab.overrides import Overrides
from twlab.results.evidence import ArmEvidence
from twlab.run.arm import as_dict, run_arm
from twlab.run.provenance import kernel
from twlab.world import World


def carry_out(request: Request, emit: Callable[[Event], None]) -> None:
    """Run every job of `request`.

    An error in one arm is its result; the others still run.
    """
    for index, job in enumerate(request["jobs"]):
        emit({"event": "start", "job": index})
        emit({"event": "arm", "job": index, "kernel": kernel(), "result": _run(job, index, request, emit)})
    emit({"event": "end"})


def _run(job: Job, index: int, request: Request, emit: Callable[[Event], None]) -> dict[str, Any]:
    try:
        scenario = scenario_here(job["source"])

        def run(remark: str) -> ArmEvidence:
            return run_arm(
                scenario,
                job["arm"],
                Overrides.from_dict(job["set"]),
                seed=request["seed"],
                folder=Path(job["folder"]),
                forced=request.get("mechanisms", {}),
                world=World.from_dict(request.get("world", {})),
                listener=lambda entry: emit({"event": "entry", "job": index, **entry.as_dict()}),
                pulse=lambda figures: emit({"event": "pulse", "job": index, **figures._asdict()}),
                attend=(lambda running: running.lab.note(remark)) if remark else None,
            )

        # In virtual time nothing is late.
        evidence = run_arm_undisturbed(run) if request["engine"] == "host" else run("")
        return evidence.as_dict()
    except Exception as error:  # before the steps began, or in the lab itself: the other arms still run
        return {"error": as_dict(error)}
