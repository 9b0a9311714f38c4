"""What is exchanged with an engine: requests go in, events come out.

Both are JSON values. A request for arms is a `Request` of `Job`s. Agents with tasks of their own
(shell, pytest, grading) define what else a request holds. Each request may have a ``seed``.
Events are JSON objects, one a line; ``event`` says which:

    start   a job begins: job (its index)
    entry   a transcript entry was made: job, and the entry's fields
    pulse   progress figures: job, and the fields of `twlab.lab.assembly.ProgressFigures`
    arm     a job is done: job, kernel (release, version and machine of the kernel that TCP ran on),
            result (the fields of `twlab.results.evidence.ArmEvidence`; those that are missing are
            empty)
    end     the request has been carried out

An engine adds two of its own: ``quiet``, no event for ``real_s`` seconds of real time, with a
``text`` that says what the lab is doing; and ``notice``, a ``text`` for the user.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, Protocol, TypedDict

from twlab.world import PINNED, World

Event = dict[str, Any]
OnEvent = Callable[[Event], None]


class Job(TypedDict):
    """One arm of a request.

    Keys:
        source: the scenario's name, or the path of a file.
        arm: its name.
        folder: where the capture is written.
        set: what ``--set`` changes, as `twlab.overrides.Overrides.as_dict` returns it.
        seed: for everything random in this job, where it is not the request's.
    """

    source: str
    arm: str
    folder: str
    set: dict[str, Any]
    seed: NotRequired[str]


class Request(TypedDict):
    """Arms for one boot of an engine.

    Keys:
        jobs: in the order in which they run.
        seed: for everything random.
        engine: the engine's name.
        mechanisms: setting to mechanism, where it is not the engine's first choice.
        world: what nodes start from, as `twlab.world.World.as_dict` returns it; without it, the
            pinned world.
    """

    jobs: list[Job]
    seed: int
    engine: str
    mechanisms: dict[str, str]
    world: NotRequired[dict[str, Any]]


class Engine(Protocol):
    """Where a lab runs."""

    name: str

    @property
    def release(self) -> str:
        """The release of its kernel; empty where that is not known beforehand."""

    def run(self, request: Mapping[str, Any], folder: Path, on_event: OnEvent, real_limit_s: float) -> None:
        """Carry out `request`, call `on_event` for each event; see the engines for errors."""


def arms_request(
    jobs: Sequence[Job],
    *,
    seed: int,
    engine: str = "guest",
    mechanisms: dict[str, str] | None = None,
    world: World = PINNED,
) -> Request:
    """Build the request that runs `jobs`."""
    request = Request(jobs=list(jobs), seed=seed, engine=engine, mechanisms=mechanisms or {})
    if world != PINNED:
        request["world"] = world.as_dict()
    return request
