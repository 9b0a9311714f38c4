"""Runs arms of scenarios in several lab kernels side by side."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

from twlab.engines import pool

DRIVER = "twlab.studies.driver"
ARMS_A_BOOT = 8
ArmRequest = tuple[str, str, Sequence[str]]  # scenario (name, or path of a file), arm, KEY=VALUE texts
ArmOutcome = dict[str, Any]  # observed, ok, mismatches, kernel, error


def parts(count: int, long: int = 0) -> list[range]:
    """Return the numbers of `count` arms, a range for each boot.

    What an arm observes may depend on the arms before it in its boot. So the parts depend on
    nothing but the arms: neither on how many boots run side by side, nor on what is done already.

    Args:
        long: so many arms at the beginning take long, and have a boot each.
    """
    rest = range(long, count, ARMS_A_BOOT)
    return [*(range(n, n + 1) for n in range(long)), *(range(n, min(n + ARMS_A_BOOT, count)) for n in rest)]


def whole(count: int, done: Container[int], long: int = 0) -> set[int]:
    """Return which of `count` arms are in parts of which every arm is in `done`."""
    return {number for part in parts(count, long) if all(number in done for number in part) for number in part}


def run(
    arms: Sequence[ArmRequest],
    *,
    seed: int,
    kernels: int,
    scheduler: str = "",
    done: Container[int] = (),
    long: int = 0,
) -> Iterator[tuple[int, ArmOutcome]]:
    """Carry out `arms`; yields the number of each with its outcome, as they are done.

    An outcome has ``observed``, ``ok``, ``mismatches``, ``kernel`` and ``error``.

    Args:
        seed: for everything random.
        kernels: boots side by side.
        scheduler: of a Dask cluster, see `twlab.engines.pool.answers`.
        done: arms that need not be run. A part of which one is missing runs as a whole.
        long: see `parts`.
    """
    spared = whole(len(arms), done, long)
    dealt = [list(part) for part in parts(len(arms), long) if not spared.issuperset(part)]
    tasks = [task([arms[number] for number in part], seed, long=part[0] < long) for part in dealt]
    for index, answer in pool.answers(DRIVER, tasks, kernels, scheduler):
        if isinstance(answer, pool.Ended):
            for number in dealt[index]:
                yield number, {"observed": None, "error": answer.error}
        else:
            yield dealt[index].pop(0), answer  # they come in their order


def task(arms: Sequence[ArmRequest], seed: int, engine: str = "guest", long: bool = False) -> dict[str, Any]:
    """Return the task of `twlab.studies.driver` that runs `arms` in one boot.

    Args:
        long: they have tens of thousands of connections, and take minutes each.
    """
    listed = [[source, arm, list(pairs)] for source, arm, pairs in arms]
    return {"arms": listed, "seed": seed, "engine": engine, "long": long}
