"""Carries out jobs in as many boots as it takes.

A crash costs the job under way, and no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from twlab.engines.protocol import Event, OnEvent
from twlab.errors import EngineError

T = TypeVar("T")


def carry_out(
    jobs: Sequence[T], boot: Callable[[Sequence[T], OnEvent], None], on_event: Callable[[Event, T | None], None]
) -> None:
    """Boot until every one of `jobs` has its event ``arm``; nothing runs twice.

    If the engine fails, the first job that is not done gets its error as the result, and the jobs
    after it get a fresh boot. If all were done by then, their results stand, and an event ``fault``
    says why the engine failed.

    Args:
        jobs: in the order in which the engine runs them.
        boot: runs the jobs that are left in one boot, and hands on each event. The ``job`` of an
            event is an index into those.
        on_event: called with each event, and its job; None where the event belongs to no job.

    Raises:
        LabError: other than an EngineError, from `boot`.
    """
    left = list(jobs)
    while left:
        done: set[int] = set()

        def relay(event: Event, left: list[T] = left, done: set[int] = done) -> None:
            if event["event"] == "arm":
                done.add(event["job"])
            on_event(event, left[event["job"]] if "job" in event else None)

        try:
            boot(left, relay)
            error = EngineError("the engine ended without a result", slug="lab-ended-early")
        except EngineError as failure:
            error = failure
            if len(done) == len(left):
                on_event({"event": "fault", "text": f"all arms were done when {error.message}"}, None)
        victim = next((index for index in range(len(left)) if index not in done), None)
        if victim is not None:
            relay({"event": "arm", "job": victim, "result": {"error": error.as_dict()}})
        left = [job for index, job in enumerate(left) if index not in done]
