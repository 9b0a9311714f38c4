"""Drives boots that run arms of scenarios: an answer for each arm, in their order."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twlab.catalogue import parse_overrides
from twlab.engines import choose, jobs
from twlab.engines.pool import Answer
from twlab.engines.protocol import Event, Job, OnEvent, arms_request
from twlab.run.runner import AGENT

_REAL_LIMIT_S = 300.0  # for one arm
_KEPT = ("observed", "ok", "mismatches", "error")


def carry_out(task: dict[str, Any], answer: Answer) -> None:
    """Run the arms of `task`, made by `twlab.studies.batch.task`.

    An arm that the engine does not survive has the engine's error as its outcome, and the arms
    after it get a fresh boot.
    """
    engine = choose(task["engine"], agent=AGENT)
    with tempfile.TemporaryDirectory(prefix="twlab-arms-") as folder:

        def boot(left: Sequence[Job], on_event: OnEvent) -> None:
            request = arms_request(left, seed=task["seed"], engine=engine.name)
            engine.run(request, Path(folder), on_event, _REAL_LIMIT_S * len(left))

        def on_event(event: Event, job: Job | None) -> None:
            if event["event"] == "arm":
                answer({**{name: event["result"].get(name) for name in _KEPT}, "kernel": event.get("kernel")})
                for file in Path(folder).glob("*.pcapng"):
                    file.unlink()

        arms = [
            Job(source=source, arm=arm, folder=folder, set=parse_overrides(source, pairs).as_dict())
            for source, arm, pairs in task["arms"]
        ]
        jobs.carry_out(arms, boot, on_event)
