"""The catalogue, carried out, for the tests of several files: `in_the_guest` of conftest.py."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from twlab.catalogue import load_scenarios
from twlab.engines import choose
from twlab.results.result import Result
from twlab.run.runner import AGENT, Order, run

CATALOGUE = load_scenarios()


def carry_out(
    engine: str,
    names: tuple[str, ...],
    out: Path,
    arms: tuple[str, ...] = (),
    folders: dict[str, Path] | None = None,
    boots: int = 0,
) -> dict[str, Result]:
    """Run scenarios, all their arms or some, and return their results; `folders` gets their folders."""
    order = Order([(name, CATALOGUE[name]) for name in names], arms, out=out, boots=boots)
    done = run(order, choose(engine, agent=AGENT))
    if folders is not None:
        folders |= {finished.result.scenario: finished.folder for finished in done}
    return {finished.result.scenario: finished.result for finished in done}


class InTheGuest:
    """A function from scenario to result: the whole catalogue as `twlab run --all` runs it, when the
    first of them is asked for.

    Attributes:
        folders: each scenario's folder, with its captures.
    """

    def __init__(self, out: Path) -> None:
        self.folders: dict[str, Path] = {}
        self._results = cache(lambda: carry_out("guest", tuple(CATALOGUE), out, folders=self.folders, boots=2))

    def __call__(self, name: str) -> Result:
        """Return the result of the scenario `name`."""
        return self._results()[name]
