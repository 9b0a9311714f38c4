"""The form in which a visitor predicts what an arm will show, and how it compares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twlab.errors import UsageError
from twlab.observation import Range, Since, plain, same_text
from twlab.report.html import wording
from twlab.scenario import Scenario

_MOST = 6  # facts that are asked for
_LONGEST = 40  # characters of an answer
TOLERANCE = 0.01  # share by which a number may be off
UNSURE = ""


@dataclass(frozen=True)
class Question:
    """One fact that is asked for.

    Attributes:
        fact: its name in the observation.
        kind: ``truth``, ``number`` or ``text``.
    """

    fact: str
    kind: str

    @property
    def words(self) -> str:
        """The fact in words, with its unit."""
        unit = next((f" ({name})" for end, name in (("_ms", "ms"), ("_s", "s")) if self.fact.endswith(end)), "")
        return wording.fact(self.fact) + unit


def of(scenario: Scenario) -> list[Question]:
    """Return what can be asked of the arms: the facts that they predict, each once.

    All arms are asked the same, so that the form does not tell one arm's prediction.
    """
    kinds: dict[str, str] = {}
    count: dict[str, int] = {}
    for arm in scenario.arms.values():
        for fact, predicted in arm.expect.items():
            value = predicted.then if isinstance(predicted, Since) else predicted
            kind = (
                "truth" if isinstance(value, bool) else "number" if isinstance(value, int | float | Range) else "text"
            )
            if not isinstance(value, list | dict):
                kinds.setdefault(fact, kind)
                count[fact] = count.get(fact, 0) + 1
    chosen = sorted(kinds, key=lambda fact: (-count[fact], list(kinds).index(fact)))[:_MOST]
    return [Question(fact, kinds[fact]) for fact in kinds if fact in chosen]


def answers(questions: list[Question], form: Mapping[str, str]) -> dict[str, Any]:
    """Return the facts of a form's fields ``fact.NAME``; unanswered ones are left out.

    Raises:
        UsageError: an answer of the wrong kind (``bad-value``).
    """
    found: dict[str, Any] = {}
    for question in questions:
        text = form.get(f"fact.{question.fact}", "").strip()[:_LONGEST]
        if text == UNSURE:
            continue
        if question.kind == "truth":
            if text not in ("yes", "no"):
                raise UsageError(f"{question.words}: {text!r} is neither yes nor no", "choose one", "bad-value")
            found[question.fact] = text == "yes"
        elif question.kind == "number":
            try:
                value = float(text)
                found[question.fact] = int(value) if value == int(value) else value
            except (ValueError, OverflowError):
                message = f"{question.words}: {text!r} is no number"
                raise UsageError(message, "write a number, or leave it empty", "bad-value") from None
        else:
            found[question.fact] = text
    return found


@dataclass(frozen=True)
class Compared:
    """One fact: what the visitor predicted beside what was observed, in words."""

    fact: str
    mine: str
    observed: str
    right: bool


def compare(predicted: Mapping[str, Any], observed: Mapping[str, Any]) -> list[Compared]:
    """Compare a visitor's prediction with what an arm showed."""
    return [
        Compared(
            wording.fact(fact),
            wording.value(fact, value),
            wording.value(fact, observed[fact]) if fact in observed else "nothing",
            fact in observed and _alike(value, observed[fact]),
        )
        for fact, value in predicted.items()
    ]


def _alike(mine: Any, seen: Any) -> bool:
    if isinstance(mine, bool) or isinstance(seen, bool):
        return mine is seen
    if isinstance(mine, int | float) and isinstance(seen, int | float):
        return abs(mine - seen) <= TOLERANCE * abs(seen)
    return same_text(plain(mine), plain(seen))
