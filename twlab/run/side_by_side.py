"""Runs many arms in two lab kernels side by side.

How the arms are dealt depends on the order alone, so one core gives the same results as two. This
module is also the driver of such a boot (`twlab.engines.pool`): its answers are the boot's events,
with the numbers of the part.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twlab.engines import jobs, pool
from twlab.engines.guest.engine import Guest
from twlab.engines.protocol import Event, OnEvent, Request
from twlab.errors import CapabilityError, UsageError

DRIVER = "twlab.run.side_by_side"
FEWEST_ARMS = 40  # below which a second boot costs more than it saves
# What an arm costs beside most of the others, from the wall times of a whole run. It only decides
# who runs where.
_COST = {
    "haproxy-exhaustion": 7.0,
    "squid-exhaustion": 8.0,
    "nginx-exhaustion": 3.0,
    "recycle-nat": 4.0,
    "nat-port-scarcity": 3.0,
}
_COST |= {"stale-data": 4.0, "stale-data-unrelated-isn": 15.0, "nat-random-fully": 2.0, "nat-second-client": 2.0}


def deal(scenarios: Sequence[str]) -> list[list[int]]:
    """Deal arms in two parts of about equal cost; return the numbers of each part.

    A scenario's arms stay together, in order.

    Args:
        scenarios: the scenario of each arm.
    """
    parts: list[list[int]] = [[], []]
    costs = [0.0, 0.0]
    groups = {
        name: [number for number, other in enumerate(scenarios) if other == name] for name in dict.fromkeys(scenarios)
    }
    for name, numbers in sorted(groups.items(), key=lambda item: -len(item[1]) * _COST.get(item[0], 1.0)):
        least = costs.index(min(costs))
        parts[least] += numbers
        costs[least] += len(numbers) * _COST.get(name, 1.0)
    return [sorted(part) for part in parts if part]


def run(
    request: Request,
    agent: str,
    parts: Sequence[Sequence[int]],
    folder: Path,
    limit_s: float,
    on_event: OnEvent,
    boots: int = 2,
) -> None:
    """Carry out the jobs of `request`, each part in boots of its own.

    Args:
        agent: the module that carries them out inside the engine.
        parts: the numbers of the jobs in each.
        folder: the only place that the guests can write to.
        limit_s: real seconds for one job.
        on_event: called with each event, ``job`` being the number in `request`; one ``end`` at
            last.
        boots: how many may run at a time. It changes no result.

    Raises:
        CapabilityError, UsageError: this machine cannot, or the order cannot be.
    """
    tasks = [
        {
            "agent": agent,
            "request": {**request, "jobs": [request["jobs"][job] for job in part]},
            "folder": str(folder),
            "limit_s": limit_s,
        }
        for part in parts
    ]
    done: set[int] = set()

    def hand_on(event: Event) -> None:
        if event["event"] == "arm":
            done.add(event["job"])
        on_event(event)

    for number, answer in pool.answers(DRIVER, tasks, boots):
        if not isinstance(answer, pool.Ended):
            hand_on({**answer, "job": parts[number][answer["job"]]} if "job" in answer else answer)
            continue
        error = answer.error or {}
        for kind in (CapabilityError, UsageError):
            if error.get("kind") == kind.__name__:
                raise kind(error["message"], error["remedy"], error["slug"])
        for job in parts[number]:
            if job not in done:  # its driver ended early
                hand_on({"event": "arm", "job": job, "result": {"error": error}})
    on_event({"event": "end"})


def carry_out(task: dict[str, Any], answer: pool.Answer) -> None:
    """Carry out the jobs of one part, in as many boots as it takes, usually one.

    Raises:
        LabError: as `twlab.engines.guest.engine.Guest.run`, but for EngineError.
    """

    def boot(numbers: Sequence[int], on_event: OnEvent) -> None:
        left = [task["request"]["jobs"][number] for number in numbers]
        guest = Guest(agent=task["agent"])
        guest.run({**task["request"], "jobs": left}, Path(task["folder"]), on_event, task["limit_s"] * len(left))

    def on_event(event: Event, number: int | None) -> None:
        if event["event"] != "end":
            answer(event if number is None else {**event, "job": number})

    jobs.carry_out(range(len(task["request"]["jobs"])), boot, on_event)
