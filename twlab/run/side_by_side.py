"""Many arms in two lab kernels side by side. How they are dealt depends on the order alone, so one
core gives the same results as two.

This module is also the program that drives a boot (`twlab.engines.pool`): its answers are the
boot's events (see `twlab.run.agent`), and

    failed    the engine failed under a job: job, error (slug, message, remedy); the jobs after it get a fresh boot
    fault     the engine failed when all were done: text
    refused   this machine cannot, or the order cannot be: error; nothing more runs
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from twlab.engines import pool
from twlab.engines.guest.engine import Guest
from twlab.engines.protocol import Event, Request
from twlab.errors import CapabilityError, EngineError, LabError, UsageError

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
    """The numbers of arms, given the scenario of each, in two parts of about equal cost; a
    scenario's arms stay together, in order.
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
    on_event: Callable[[Event], None],
    boots: int = 2,
) -> None:
    """Carry out the jobs of `request`, each part in boots of its own; their events come with the
    numbers of `request`.

    Args:
        agent: the module that carries them out inside the engine.
        parts: the numbers of the jobs in each.
        folder: the only place that the guests can write to.
        limit_s: real seconds for one job.
        boots: how many may run at a time. It changes no result.
        on_event: is called with each event, also ``failed`` and ``fault``; with one ``end`` at
            last.

    Raises:
        CapabilityError, UsageError: this machine, or the order.
    """
    requests = []
    for number, part in enumerate(parts, 1):
        jobs = [request["jobs"][job] for job in part]
        requests.append(
            {
                "agent": agent,
                "request": {**request, "jobs": jobs},
                "folder": str(folder),
                "log": f"console-{number}.log",
                "limit_s": limit_s,
            }
        )
    done: set[int] = set()
    for number, answer in pool.answers("twlab.run.side_by_side", requests, boots):
        if isinstance(answer, pool.Ended):
            for job in parts[number]:
                if job not in done:
                    on_event(
                        {
                            "event": "failed",
                            "job": job,
                            "error": EngineError(str(answer), slug="guest-ended-early").as_dict(),
                        }
                    )
        elif answer["event"] == "refused":
            kinds: dict[str, type[LabError]] = {kind.__name__: kind for kind in (CapabilityError, UsageError)}
            error = answer["error"]
            raise kinds.get(error.get("kind", ""), EngineError)(error["message"], error["remedy"], error["slug"])
        elif answer["event"] != "end":
            if "job" in answer:
                answer["job"] = parts[number][answer["job"]]
            if answer["event"] in ("arm", "failed"):
                done.add(answer["job"])
            on_event(answer)
    on_event({"event": "end"})


def carry_out(part: dict[str, Any], on_event: Callable[[Event], None]) -> None:
    """The jobs of one part, in as many boots as it takes, usually one. Raises as
    `twlab.engines.guest.engine.Guest.run`, but for EngineError.
    """
    left = list(range(len(part["request"]["jobs"])))
    while left:
        batch = list(left)

        def hand_on(event: Event, batch: list[int] = batch) -> None:
            if "job" in event:
                event = {**event, "job": batch[event["job"]]}
            if event["event"] == "arm":
                left.remove(event["job"])
            on_event(event)

        jobs = [part["request"]["jobs"][number] for number in batch]
        try:
            guest = Guest(agent=part["agent"], log=part["log"])
            guest.run({**part["request"], "jobs": jobs}, Path(part["folder"]), hand_on, part["limit_s"] * len(jobs))
        except EngineError as error:
            if left:
                on_event({"event": "failed", "job": left.pop(0), "error": error.as_dict()})
            else:
                on_event({"event": "fault", "text": f"all arms were done when {error.message}"})


def main() -> None:
    """Carry out the part on standard input; end with the process that started us."""
    part = pool.request()
    try:
        carry_out(part, pool.answer)
    except LabError as error:
        pool.answer({"event": "refused", "error": error.as_dict()})


if __name__ == "__main__":
    main()
