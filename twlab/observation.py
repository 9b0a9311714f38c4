"""The facts that an arm is predicted to show, and those that it showed. Pure.

An `Observation` is a handful of named facts. A prediction is an Observation too; it is compared
fact by fact, only those that it names, and a fact may be predicted as a range.

    >>> predicted = Observation(reopened=True, connect_s=between(0.5, 1.5))
    >>> predicted.mismatches(Observation(reopened=True, connect_s=2.0, sent=9))
    ['connect_s: predicted between 0.5 and 1.5, observed 2.0']
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_NOTHING = {"none", "nothing", "no error"}  # as people write an empty text


@dataclass(frozen=True, slots=True)
class Range:
    """A predicted number from `low` to `high`, both included.

    None leaves that side open.
    """

    low: float | None = None
    high: float | None = None

    def holds(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.low is None:
            return f"at most {self.high}"
        return f"at least {self.low}" if self.high is None else f"between {self.low} and {self.high}"


def between(low: float, high: float) -> Range:
    """Predict a number from `low` to `high`, both included."""
    return Range(low, high)


def at_least(low: float) -> Range:
    """Predict a number not below `low`."""
    return Range(low=low)


def at_most(high: float) -> Range:
    """Predict a number not above `high`."""
    return Range(high=high)


def about(value: float, relative: float = 0.01) -> Range:
    """Predict a number within `relative` (a share, default 1 %) of `value`."""
    return Range(value - abs(value) * relative, value + abs(value) * relative)


@dataclass(frozen=True, slots=True)
class Since:
    """A predicted value, or an arm, that a release of Linux changed.

    Attributes:
        release: the first with it, as far as it matters: ``6.14``.
        then: what is predicted from it on: a value or a `Range`; or the arm from it on.
        before: the same of older kernels; it may depend on a still older release.
    """

    release: str
    then: Any
    before: Any

    def on(self, release: str) -> Any:
        """Return what holds on the kernel of `release`, ``6.12.117-twlab``."""
        if _numbers(release) >= _numbers(self.release):
            return self.then
        return self.before.on(release) if isinstance(self.before, Since) else self.before

    def __str__(self) -> str:
        before = str(self.before) if isinstance(self.before, Since) else f"{plain(self.before)} before"
        return f"{plain(self.then)} since Linux {self.release}, {before}"


def since(release: str, then: Any, before: Any) -> Since:
    """Predict `then` from a release of Linux on, and `before` on older ones.

    With two changes the older one is the newer one's `before`:
    ``since("7.2", 16, before=since("6.12", 0, before=16))``.
    """
    return Since(release, then, before)


def _numbers(release: str) -> tuple[int, ...]:
    found = re.match(r"\d+(\.\d+)*", release)
    return tuple(map(int, found[0].split("."))) if found else ()


class Observation(Mapping[str, Any]):
    """Named facts, in the order given.

    A fact is a JSON value; in a prediction it may be a `Range`, or a `Since`.
    """

    def __init__(self, **facts: Any):
        self._facts = facts

    def __getitem__(self, name: str) -> Any:
        return self._facts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._facts)

    def __len__(self) -> int:
        return len(self._facts)

    def __repr__(self) -> str:
        return f"Observation({self.words()})"

    def words(self) -> str:
        """``reopened=yes foreign_bytes=400``"""
        return " ".join(f"{name}={plain(value)}" for name, value in self._facts.items())

    def as_dict(self) -> dict[str, Any]:
        """JSON values.

        A range becomes ``{"low": ..., "high": ...}``; what depends on the kernel becomes
        ``{"since": release, "then": ..., "before": ...}``.
        """
        return {name: _as_json(value) for name, value in self._facts.items()}

    def on(self, release: str) -> Observation:
        """Return what is predicted on the kernel of `release`.

        Where that is empty, nothing is decided.
        """
        known = {name: v.on(release) if isinstance(v, Since) and release else v for name, v in self._facts.items()}
        return Observation(**known)

    def mismatches(self, observed: Mapping[str, Any]) -> list[str]:
        """Return, in words, each predicted fact that differs from `observed`.

        The list is empty if all predictions hold. Facts without a prediction are ignored.
        """
        return [
            f"{name}: predicted {plain(wanted)}, observed {plain(observed[name]) if name in observed else 'nothing'}"
            for name, wanted in self._facts.items()
            if name not in observed or not _agrees(wanted, observed[name])
        ]


def _as_json(value: Any) -> Any:
    if isinstance(value, Range):
        return {"low": value.low, "high": value.high}
    if isinstance(value, Since):
        return {"since": value.release, "then": _as_json(value.then), "before": _as_json(value.before)}
    return value


def same_text(said: str, shown: str) -> bool:
    """Return whether a person said the text that was shown, or that there was none."""
    said, shown = said.strip().casefold(), shown.strip().casefold()
    return said == shown or (shown == "" and said in _NOTHING)


def plain(value: object) -> str:
    """A fact as a person writes it: yes and no for truth values."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _agrees(wanted: object, got: object) -> bool:
    if isinstance(wanted, Range):
        return wanted.holds(got)
    return wanted == got and isinstance(wanted, bool) == isinstance(got, bool)
