"""Puts verdicts and facts into words that a student understands. Pure."""

from __future__ import annotations

from typing import Any

from twlab.report.text import facts
from twlab.results.result import ArmResult, Result
from twlab.scenario import Verdict
from twlab.world import words

_UNITS = {"_s": "s", "_ms": "ms", "_percent": "%"}


def verdict(result: Result) -> str:
    """Return what the run says about its claim, in one or two sentences."""
    failed = [name for name, arm in result.arms.items() if arm.ok is None and not arm.unpredicted]
    free = {name: arm for name, arm in result.arms.items() if arm.ok is None and arm.unpredicted}
    off = [name for name, arm in result.arms.items() if arm.ok is False]
    control = next((name for name, arm in result.arms.items() if arm.role == "control"), None)
    if result.is_session:
        return (
            "A session at the shell claims nothing, so nothing can be said about it; what was done in it stands below."
        )
    if control is None:
        return (
            "Read it with care: the control was not part of this run, so there is nothing to compare the other "
            "arms with."
        )
    if result.verdict is Verdict.SUPPORTED:
        return (
            "The claim held. What each arm would show was written down before it ran, and every arm showed it, "
            "the control included."
        )
    if result.verdict is Verdict.REFUTED:
        return (
            f"The claim did not hold here. The control behaved, so the set-up was sound, but {_listed(off)} did not "
            "show what was predicted. What differs is marked below."
        )
    if control in off:
        return (
            "Nothing follows from this run: the control itself did not behave as predicted, so no difference to it "
            "means anything."
        )
    if failed:
        return f"Nothing follows from this run: {_listed(failed)} could not be carried out."
    why = next(iter(free.values())).no_prediction
    return f"No verdict, because there is {why}: {_listed(list(free))}. What was observed stands below."


def world(result: Result) -> str:
    """Return what the arms started from, in words; empty where it was the baseline."""
    return words(result.world)


def outcome(arm: ArmResult) -> str:
    """Return the outcome of one arm, in a few words."""
    return "what was done" if arm.role == "session" else arm.outcome


def arms(result: Result) -> str:
    """Return the outcome of all arms, naming those that did not go as predicted."""
    if result.is_session:
        return "no predictions"
    odd = [f"{name} {outcome(arm)}" for name, arm in result.arms.items() if not arm.ok]
    return "; ".join([f"{len(result.arms) - len(odd)} of {len(result.arms)} as predicted", *odd])


def fact(name: str) -> str:
    """Return the name of a fact in words.

    ``foreign_bytes`` is ``foreign bytes``; a unit goes to the value.
    """
    unit = _unit(name)
    return (name.removesuffix(unit) if unit else name).replace("_", " ")


def value(name: str, seen: Any) -> str:
    """Return the value of the fact `name`, observed or predicted, with its unit."""
    unit = _UNITS.get(_unit(name), "")
    return f"{facts.sentence(seen) or 'none'} {unit}".strip()


def is_table(seen: Any) -> bool:
    """Return whether an observed value is a list of rows with equal columns."""
    return (
        isinstance(seen, list)
        and bool(seen)
        and all(isinstance(row, dict) and row.keys() == seen[0].keys() for row in seen)
    )


def _unit(name: str) -> str:
    return next((suffix for suffix in _UNITS if name.endswith(suffix)), "")


def _listed(names: list[str]) -> str:
    quoted = [f"the arm “{name}”" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}" if quoted else "an arm"
