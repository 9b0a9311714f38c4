"""Runs arms of scenarios in several lab kernels side by side."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

from twlab.engines import pool

DRIVER = "twlab.studies.driver"
ARMS_A_BOOT = 8
ArmRequest = tuple[str, str, Sequence[str]]  # scenario (name, or path of a file), arm, KEY=VALUE texts
ArmOutcome = dict[str, Any]  # observed, ok, mismatches, kernel, error


def parts(count: int) -> list[range]:
    """Return the numbers of `count` arms, a range for each boot.

    What an arm observes may depend on the arms before it in its boot. So the parts depend on
    nothing but the arms: neither on how many boots run side by side, nor on what is done already.
    """
    return [range(first, min(first + ARMS_A_BOOT, count)) for first in range(0, count, ARMS_A_BOOT)]


def whole(count: int, done: Container[int]) -> set[int]:
    """Return which of `count` arms are in parts of which every arm is in `done`."""
    return {number for part in parts(count) if all(number in done for number in part) for number in part}


def run(
    arms: Sequence[ArmRequest], *, seed: int, kernels: int, scheduler: str = "", done: Container[int] = ()
) -> Iterator[tuple[int, ArmOutcome]]:
    """Carry out `arms`; yields the number of each with its outcome, as they are done.

    An outcome has ``observed``, ``ok``, ``mismatches``, ``kernel`` and ``error``.

    Args:
        seed: for everything random.
        kernels: boots side by side.
        scheduler: of a Dask cluster, see `twlab.engines.pool.answers`.
        done: arms that need not be run. A part of which one is missing runs as a whole.
    """
    spared = whole(len(arms), done)
    dealt = [list(part) for part in parts(len(arms)) if not spared.issuperset(part)]
    tasks = [task([arms[number] for number in part], seed) for part in dealt]
    for index, answer in pool.answers(DRIVER, tasks, kernels, scheduler):
        if isinstance(answer, pool.Ended):
            for number in dealt[index]:
                yield number, {"observed": None, "error": answer.error}
        else:
            yield dealt[index].pop(0), answer  # they come in their order


def task(arms: Sequence[ArmRequest], seed: int, engine: str = "guest") -> dict[str, Any]:
    """Return the task of `twlab.studies.driver` that runs `arms` in one boot."""
    listed = [[source, arm, list(pairs)] for source, arm, pairs in arms]
    return {"arms": listed, "seed": seed, "engine": engine}
