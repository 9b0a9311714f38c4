"""Puts facts into text: predicted and observed values, ranges from low to high."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twlab.observation import plain


def line(facts: Mapping[str, Any]) -> str:
    """Return facts as one line: ``foreign_bytes=0 age_s=58..62``."""
    return " ".join(f"{name}={word(value)}" for name, value in facts.items())


def word(value: Any) -> str:
    """Return one value as a word; a range as ``low..high``, with an open end empty."""
    if is_range(value):
        low, high = ("" if value[end] is None else value[end] for end in ("low", "high"))
        return f"{low}..{high}"
    if depends(value):
        return f"{word(value['then'])}(before-{value['since']}:{word(value['before'])})"
    return "none" if value == "" else plain(value)


def sentence(value: Any) -> str:
    """Return one value for a page.

    A range is ``58 to 62``, ``at least 58`` or ``at most 62``.
    """
    if depends(value):
        then, before = sentence(value["then"]), sentence(value["before"])
        return f"{then} since Linux {value['since']}, {before}" + ("" if depends(value["before"]) else " before")
    if not is_range(value):
        return plain(value)
    low, high = value["low"], value["high"]
    if low is None:
        return f"at most {high}"
    return f"at least {low}" if high is None else f"{low} to {high}"


def is_range(value: Any) -> bool:
    """Return whether a value is a range: an object with ``low`` and ``high``."""
    return isinstance(value, dict) and set(value) == {"low", "high"}


def depends(value: Any) -> bool:
    """Return whether a predicted value depends on the kernel's release."""
    return isinstance(value, dict) and set(value) == {"since", "then", "before"}
