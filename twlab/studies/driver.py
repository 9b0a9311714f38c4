"""Drives boots that run arms of scenarios: an answer for each arm, in their order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twlab.catalogue import parse_overrides
from twlab.engines import choose, jobs, kernel_path
from twlab.engines.guest.engine import LARGE_TABLES, Guest
from twlab.engines.pool import Answer
from twlab.engines.protocol import Event, Job, OnEvent, arms_request
from twlab.engines.scratch import scratch_folder
from twlab.errors import LabError
from twlab.run.runner import AGENT
from twlab.run.worlds import find_world
from twlab.world import PINNED

_REAL_LIMIT_S, _LONG_LIMIT_S = 300.0, 4 * 3600.0  # for one arm
KEPT = ("observed", "ok", "mismatches", "error")


def carry_out(task: dict[str, Any], answer: Answer) -> None:
    """Run the arms of `task`, made by `twlab.studies.batch.task`.

    It may name the ``world`` that the nodes start from.
    An arm that cannot be found or set has its error as its outcome, and so has one that the engine
    does not survive. The arms after it get a fresh boot.
    """
    long = task.get("long", False)
    limit_s = _LONG_LIMIT_S if long else _REAL_LIMIT_S
    engine = (
        Guest(kernel_path(), agent=AGENT, silence_s=limit_s, more=LARGE_TABLES)
        if long and task["engine"] == "guest"
        else choose(task["engine"], agent=AGENT)
    )
    world = find_world(task.get("world", PINNED.name))
    outcomes: dict[int, dict[str, Any]] = {}
    answered = 0

    def conclude(number: int, outcome: dict[str, Any]) -> None:
        """Answer with all outcomes that are next in order."""
        nonlocal answered
        outcomes[number] = outcome
        while answered in outcomes:
            answer(outcomes.pop(answered))
            answered += 1

    with scratch_folder() as folder:

        def boot(left: Sequence[tuple[int, Job]], on_event: OnEvent) -> None:
            request = arms_request([job for _, job in left], seed=task["seed"], engine=engine.name, world=world)
            engine.run(request, folder, on_event, limit_s * len(left))

        def on_event(event: Event, numbered: tuple[int, Job] | None) -> None:
            if numbered and event["event"] == "arm":
                kept = {name: event["result"].get(name) for name in KEPT}
                conclude(numbered[0], {**kept, "kernel": event.get("kernel")})
                for file in folder.glob("*.pcapng"):
                    file.unlink()

        arms: list[tuple[int, Job]] = []
        for number, (source, arm, pairs) in enumerate(task["arms"]):
            try:
                changed = parse_overrides(source, pairs).as_dict()
            except LabError as error:
                conclude(number, {"observed": None, "error": error.as_dict()})
            else:
                arms.append((number, Job(source=source, arm=arm, folder=str(folder), set=changed)))
        jobs.carry_out(arms, boot, on_event)
