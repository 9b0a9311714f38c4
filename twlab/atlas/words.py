"""Puts the facts of a cell into words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Facts = Mapping[str, Any]
_MANNERS = {"keeps": "keeps", "says": "says close", "closes": "closes"}


def cell(column: str, facts: Facts) -> str:
    """Return the text of a cell.

    Args:
        column: one of `twlab.atlas.columns.COLUMNS`.
        facts: that it returned.
    """
    return _WORDS[column](facts)


def _bind(facts: Facts) -> str:
    def one(key: str) -> str:
        seen = facts[key]
        return seen if seen is not None else f"ports as {facts[f'{key}_ports']} chooses them (no system calls seen)"

    return one("as_it_comes") + (f"; source: {one('source')}" if "source" in facts else "")


def _close(facts: Facts) -> str:
    return "; ".join(f"{words}: {facts[manner]}" for manner, words in _MANNERS.items())


def _reuse(facts: Facts) -> str:
    return ", ".join(f"{method.upper()} {facts[method]}" for method in ("get", "post") if method in facts)


def _idle(facts: Facts) -> str:
    if "more_than_s" in facts:
        return f"more than {facts['more_than_s']:g} s"
    return f"{facts['s']:g} s, {facts['by']}" if facts["s"] >= 0.1 else "not kept"


def _race(facts: Facts) -> str:
    def one(outcome: Facts) -> str:
        if not outcome["met"]:
            return "own connection"
        return outcome["answer"] + (f" (sent {outcome['sent']} times)" if outcome["sent"] > 1 else "")

    methods = []
    for method in ("get", "post"):
        if f"{method}_fin" in facts:
            fin, rst = one(facts[f"{method}_fin"]), one(facts[f"{method}_rst"])
            methods.append(f"{method.upper()} " + (fin if fin == rst else f"FIN {fin}, RST {rst}"))
    return "; ".join(methods)


def _short(facts: Facts) -> str:
    parts = [f"{facts['answered']} of {facts['asked']}"]
    if facts["answered"] < facts["asked"]:
        parts.append(facts["sees"])
        if "calls" in facts:
            parts.append(", ".join(f"{call} x{count}" for call, count in facts["calls"].items()) or "no failing call")
        parts.append(f"says: {facts['says']}" if facts["says"] else "says nothing")
        back_s = facts["back_after_s"]
        parts.append("never back" if back_s is None else f"back after {_about(back_s)}" if back_s else "back at once")
    return "; ".join(parts)


def _about(time_s: float) -> str:
    """Return whole seconds, from one on: programs count in seconds of the clock, not of the outage."""
    return f"{time_s:.0f} s" if time_s >= 1 else f"{time_s:g} s"


def _share(facts: Facts) -> str:
    return f"{facts['answered']} of {facts['asked']}" + (
        f" ({', '.join(facts['calls'])})" if facts["answered"] < facts["asked"] and facts["calls"] else ""
    )


_WORDS: Mapping[str, Callable[[Facts], str]] = {
    "bind": _bind,
    "close": _close,
    "reuse": _reuse,
    "idle": _idle,
    "race": _race,
    "short": _short,
    "tw-reuse": _share,
    "source": _share,
    "both": _share,
}
