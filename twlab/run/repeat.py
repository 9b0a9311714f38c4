"""Repeats a run with other seeds, and counts the verdicts."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from twlab.engines.protocol import Engine, Event
from twlab.errors import Interrupted
from twlab.run.runner import Order, run
from twlab.scenario import Verdict


@dataclass
class VerdictCounts:
    """The verdicts of one scenario over all repetitions.

    Attributes:
        verdicts: how often each came.
        kept: folders of the first run, and of every one that was not SUPPORTED; the others are
            removed.
    """

    scenario: str
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    kept: list[Path] = field(default_factory=list)

    @property
    def steady(self) -> bool:
        """Whether it was SUPPORTED every time."""
        return set(self.verdicts) == {Verdict.SUPPORTED}

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "scenario": self.scenario,
            "verdicts": dict(self.verdicts),
            "runs": [str(folder) for folder in self.kept],
        }


def repeat(
    order: Order, engine: Engine, times: int, on_event: Callable[[Event], None], on_round: Callable[[int], None]
) -> list[VerdictCounts]:
    """Carry out `order` `times` times, with seeds that count up from its own.

    Raises as `twlab.run.runner.run`.

    Args:
        on_event: as `listener` there.
        on_round: is called after each time with how many have been done.

    Returns:
        The counts of each scenario, in the order of `order`.
    """
    counted = [VerdictCounts(scenario.name) for _, scenario in order.scenarios]
    for number in range(times):
        try:
            finished = run(replace(order, seed=order.seed + number), engine, on_event)
        except Interrupted as stop:
            folders = [f"kept in {folder}" for counts in counted for folder in counts.kept]
            raise Interrupted("\n  ".join([f"{number} of {times} times were done", *folders, stop.kept])) from stop
        for counts, one in zip(counted, finished, strict=True):
            verdict = one.result.verdict
            counts.verdicts[verdict] += 1
            if verdict is not Verdict.SUPPORTED or number == 0:
                counts.kept.append(one.folder)
            else:
                shutil.rmtree(one.folder)
        on_round(number + 1)
    return counted
