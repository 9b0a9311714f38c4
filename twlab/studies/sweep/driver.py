"""Drives a sweep's boots: carries out a part of the grid.

Each answer is a cell's number and result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twlab.catalogue import parse_overrides
from twlab.engines import jobs
from twlab.engines.guest.engine import Guest
from twlab.engines.pool import Answer
from twlab.engines.protocol import Event, Job, OnEvent, arms_request
from twlab.engines.scratch import scratch_folder
from twlab.world import World

if TYPE_CHECKING:
    from twlab.studies.sweep.fill import SweepTask

AGENT = "twlab.studies.sweep.agent"
_REAL_LIMIT_S = 600.0  # for one cell, which reports nothing until it is done


def carry_out(task: SweepTask, answer: Answer) -> None:
    """Run a part of the grid in as many boots as it takes, usually one.

    A cell that the guest does not survive has the engine's error as its result, and the cells after
    it get a fresh boot.
    """
    kernel = Path(task["kernel"]) if task["kernel"] else None
    with scratch_folder() as folder:

        def job(number: int) -> Job:
            pairs = [*task["cells"][number], f"trials={task['trials']}"]
            changed = parse_overrides(task["source"], pairs).as_dict()
            seed = f"{task['seed']} {task['arm']} {pairs}"
            return Job(source=task["source"], arm=task["arm"], folder=str(folder), set=changed, seed=seed)

        def boot(numbers: Sequence[int], on_event: OnEvent) -> None:
            world = World.from_dict(task.get("world", {}))
            request = arms_request([job(number) for number in numbers], seed=task["seed"], world=world)
            guest = Guest(kernel, agent=AGENT, silence_s=_REAL_LIMIT_S)
            guest.run(request, folder, on_event, _REAL_LIMIT_S * len(numbers))

        def on_event(event: Event, number: int | None) -> None:
            if event["event"] == "arm":
                result: dict[str, Any] = event["result"]
                answer([number, result])

        jobs.carry_out(range(len(task["cells"])), boot, on_event)
