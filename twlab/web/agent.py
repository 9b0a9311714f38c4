"""Runs arms in the server's guests, and shows their packets on the way.

It is that of `twlab.run.agent` for a guest without a folder: its events ``capture`` bring the
capture out, at each step so far as it goes, and whole at the end of an arm. They have ``job``, and
``data``, the file compressed, in base64.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twlab.catalogue import scenario_here
from twlab.engines.protocol import Event, Job, Request
from twlab.lab.assembly import RunningLab
from twlab.overrides import Overrides
from twlab.results.transcript import Entry
from twlab.run.arm import as_dict, run_arm
from twlab.run.provenance import kernel

_FOLDER = Path("/run")  # of the guest's own
_MOST_LIVE = 1 << 20  # bytes of a capture that is shown while it grows
_MOST = 6 << 20  # bytes of a capture that leaves the guest, compressed


def carry_out(request: Request, emit: Callable[[Event], None]) -> None:
    """Run every job of `request`; an error in one arm is its result."""
    for index, job in enumerate(request["jobs"]):
        emit({"event": "start", "job": index})
        emit({"event": "arm", "job": index, "kernel": kernel(), "result": _run(job, index, request, emit)})
    emit({"event": "end"})


def _run(job: Job, index: int, request: Request, emit: Callable[[Event], None]) -> dict[str, Any]:
    running: list[RunningLab] = []
    steps = 0
    path = _FOLDER / f"{job['arm']}.pcapng"

    def heard(entry: Entry) -> None:
        nonlocal steps
        steps += entry.kind == "step"
        if entry.kind == "step" and steps > 1:
            running[0].capture.save()
            _send(path, index, _MOST_LIVE, emit)
        emit({"event": "entry", "job": index, **entry.as_dict()})

    try:
        evidence = run_arm(
            scenario_here(job["source"]),
            job["arm"],
            Overrides.from_dict(job["set"]),
            seed=request["seed"],
            folder=_FOLDER,
            forced={},
            listener=heard,
            attend=running.append,
        )
        _send(path, index, _MOST, emit)
        return evidence.as_dict()
    except Exception as error:  # before the steps began, or in the lab itself: the other arms still run
        return {"error": as_dict(error)}


def _send(path: Path, index: int, most: int, emit: Callable[[Event], None]) -> None:
    if path.exists() and path.stat().st_size <= max(most, _MOST_LIVE):
        packed = zlib.compress(path.read_bytes(), 1)
        if len(packed) <= most:
            emit({"event": "capture", "job": index, "data": base64.b64encode(packed).decode()})
