"""Arms of scenarios in several lab kernels side by side, results as they come.

This module is also the program that drives a boot (`twlab.engines.pool`): an answer for each arm.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from twlab.catalogue import parse_overrides
from twlab.engines import choose, pool
from twlab.engines.protocol import Job, arms_request
from twlab.errors import EngineError, LabError
from twlab.run.runner import AGENT

_REAL_LIMIT_S = 300.0  # for one arm
_PARTS = 4  # boots for each kernel that runs at a time, so that none waits long for the last
Result = dict[str, Any]


def run(arms: Sequence[tuple[str, str, Sequence[str]]], *, seed: int, kernels: int) -> Iterator[tuple[int, Result]]:
    """Carry out `arms`; yields the number of each with its result (``observed``, ``ok``,
    ``mismatches``, ``kernel``, ``error``) when it is done.

    Args:
        arms: scenario (name, or path of a file), arm, and ``KEY=VALUE`` over its settings.
        seed: for everything random.
        kernels: boots side by side.
    """
    parts = min(len(arms), kernels * _PARTS)
    dealt = [list(range(number, len(arms), parts)) for number in range(parts)]
    requests = [{"arms": [list(arms[number]) for number in numbers], "seed": seed} for numbers in dealt]
    for part, answer in pool.answers("twlab.studies.batch", requests, kernels):
        if isinstance(answer, pool.Ended):
            for number in dealt[part]:
                yield number, _failed(str(answer))
        else:
            yield dealt[part].pop(0), answer  # they come in their order


def carry_out(part: dict[str, Any], on_result: Callable[[Result], None], engine: str = "guest") -> None:
    """The arms of one part, in their order. One that the engine does not survive is told as such;
    those after it get a fresh boot.
    """
    left = list(part["arms"])
    with tempfile.TemporaryDirectory(prefix="twlab-abreast-") as folder:
        while left:
            done = 0

            def on_event(event: dict[str, Any]) -> None:
                nonlocal done
                if event["event"] == "arm":
                    done += 1
                    shown = {name: event["result"].get(name) for name in ("observed", "ok", "mismatches", "error")}
                    on_result({**shown, "kernel": event["kernel"]})
                    for file in Path(folder).glob("*.pcapng"):
                        file.unlink()

            jobs = [
                Job(source=source, arm=arm, folder=folder, set=parse_overrides(source, sets).as_dict())
                for source, arm, sets in left
            ]
            request = arms_request(jobs, seed=part["seed"], engine=engine)
            try:
                choose(engine, agent=AGENT).run(request, Path(folder), on_event, _REAL_LIMIT_S * len(left))
            except EngineError as error:
                if done < len(left):
                    done += 1
                    on_result(_failed(str(error)))
            left = left[done:]


def _failed(message: str) -> Result:
    return {"observed": None, "error": {"slug": "engine", "message": message}}


def main() -> None:
    """Carry out the part on standard input; end with the process that started us."""
    part = pool.request()
    try:
        carry_out(part, pool.answer)
    except LabError as error:
        pool.answer(_failed(str(error)))


if __name__ == "__main__":
    main()
