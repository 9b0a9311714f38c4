"""Sliders of the pages that compute: a bounded number each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from markupsafe import Markup
from starlette.responses import HTMLResponse

from twlab.errors import LabError, UsageError


class Slider(NamedTuple):
    """A number that a visitor may move.

    Attributes:
        name: of the form's field.
        words: what it is.
        unit: of the number, or "".
        low, high: its bounds.
        first: where it stands at first.
        step: of the slider.
    """

    name: str
    words: str
    unit: str
    low: float
    high: float
    first: float
    step: float


def values(sliders: Iterable[Slider], given: Mapping[str, str]) -> dict[str, float]:
    """Return the sliders' numbers, by name; where none is given, the first.

    Raises:
        UsageError: no number, or out of its bounds (``bad-value``).
    """
    found = {}
    for slider in sliders:
        text = given.get(slider.name, "").strip()[:24]
        try:
            value = float(text) if text else slider.first
        except ValueError:
            value = float("nan")
        if not slider.low <= value <= slider.high:
            message = (
                f"{slider.words}: {text} is out of range: expected a number from {slider.low:g} to {slider.high:g}"
            )
            raise UsageError(message, "move the slider", "bad-value")
        found[slider.name] = value
    return found


def wrong(error: LabError) -> HTMLResponse:
    """Return the part of a page that says what is wrong with the sliders' numbers."""
    return HTMLResponse(Markup("<p class='wrong' data-said>{}</p>").format(error.message), 400)
