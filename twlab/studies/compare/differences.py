"""The facts in which columns differ, and how each difference is decided. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from twlab.studies.compare.draws import Decision, decide

ERROR = "error"  # the fact of an arm that could not be carried out: the error's slug
Outcome = Mapping[str, Any]  # observed, ok, error; see `twlab.studies.driver`
_MOST_VALUES = 3  # of a fact over the seeds that are listed


@dataclass
class Step:
    """Two neighbouring columns that differ in a fact, and what that is.

    Attributes:
        older, newer: names of the columns.
        decision: what the difference is.
        seeds: fresh seeds behind the decision.
    """

    older: str
    newer: str
    decision: Decision = Decision.UNDECIDED
    seeds: int = 0

    @property
    def words(self) -> str:
        """``change 6.12 to 7.3``"""
        return f"{self.decision} {self.older} to {self.newer}"


@dataclass
class Difference:
    """A fact of one arm that the columns observed differently.

    Attributes:
        scenario, arm, fact: of it.
        values: column to the value that the first run observed; None where it did not.
        steps: the neighbouring columns that differ.
        seen: column to the values with fresh seeds, as far as they were wanted.
    """

    scenario: str
    arm: str
    fact: str
    values: dict[str, Any]
    steps: list[Step]
    seen: dict[str, list[Any]] = field(default_factory=dict)

    @property
    def decision(self) -> Decision:
        """A change if one step is; undecided if one is and none a change."""
        found = {step.decision for step in self.steps}
        return next((kind for kind in (Decision.CHANGE, Decision.UNDECIDED) if kind in found), Decision.CHANCE)

    def open_columns(self) -> set[str]:
        """Return the columns that a step which is not decided needs more values of."""
        undecided = [step for step in self.steps if step.decision is Decision.UNDECIDED]
        return {name for step in undecided for name in (step.older, step.newer)}

    def look(self, seen: Mapping[str, Sequence[Any]], last: bool) -> None:
        """Decide the steps by what was `seen`, column to values with fresh seeds."""
        for step in self.steps:
            if step.decision is Decision.UNDECIDED:
                older, newer = seen[step.older], seen[step.newer]
                step.decision, step.seeds = decide(older, newer, last), len(older)
                self.seen |= {step.older: list(older), step.newer: list(newer)}

    def as_row(self) -> dict[str, Any]:
        """Return the row of ``compare.json``."""
        steps = [f"{step.words} ({step.seeds} seeds)" for step in self.steps if step.decision is not Decision.CHANCE]
        return {
            "scenario": self.scenario,
            "arm": self.arm,
            "fact": self.fact,
            **self.values,
            "decided": str(self.decision),
            "steps": steps or [f"chance ({max(step.seeds for step in self.steps)} seeds)"],
            "seen": {column: summary(values) for column, values in self.seen.items()},
        }


def differences(scenario: str, arm: str, outcomes: Mapping[str, Outcome]) -> Iterator[Difference]:
    """Yield the facts in which the columns differ.

    Args:
        outcomes: column, in order, to the outcome of the arm.
    """
    facts = {column: facts_of(outcome) for column, outcome in outcomes.items()}
    for fact in dict.fromkeys(name for seen in facts.values() for name in seen):
        values = {column: seen.get(fact) for column, seen in facts.items()}
        steps = [Step(older, newer) for older, newer in pairwise(values) if not same(values[older], values[newer])]
        if steps:
            yield Difference(scenario, arm, fact, values, steps)


def facts_of(outcome: Outcome) -> dict[str, Any]:
    """Return what an arm observed; of one that could not be carried out, why."""
    error = outcome.get("error")
    return {ERROR: error["slug"]} if error else dict(outcome.get("observed") or {})


def same(first: Any, second: Any) -> bool:
    """Return whether two JSON values are the same; true is not 1."""
    return first == second and isinstance(first, bool) == isinstance(second, bool)


def verdicts(scenario: str, arm: str, outcomes: Mapping[str, Outcome]) -> dict[str, Any] | None:
    """Return the row of an arm whose verdict differs; None if it does not.

    A column whose machine cannot carry out the arm has no verdict.
    """
    words = {True: "as predicted", False: "not as predicted", None: "could not be carried out"}
    judged = {
        column: words[outcome.get("ok")]
        for column, outcome in outcomes.items()
        if (outcome.get("error") or {}).get("kind") != "CapabilityError"
    }
    return {"scenario": scenario, "arm": arm, **judged} if len(set(judged.values())) > 1 else None


def summary(values: Sequence[Any]) -> Any:
    """Return values as one: the only one, numbers from low to high, or a few of them."""
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    if values and len(numbers) == len(values):
        low, high = min(numbers), max(numbers)
        return low if low == high else {"low": low, "high": high}
    distinct: list[Any] = []
    for value in values:
        if not any(same(value, known) for known in distinct):
            distinct.append(value)
    if len(distinct) == 1:
        return distinct[0]
    return distinct[:_MOST_VALUES] + (["..."] if len(distinct) > _MOST_VALUES else [])
