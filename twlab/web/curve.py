"""Draws how often TIME_WAIT, by its length, lets a late segment do harm. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import NamedTuple

from markupsafe import Markup, escape

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 280, 76, 16, 14, 40
_LOWEST, _HIGHEST = -8, 6  # powers of ten, of harmed connections a day
_NEVER = 10.0**_LOWEST
_YEAR_DAYS = 365.25
_LINES = {
    "1,000,000": 1e6,
    "1,000": 1e3,
    "1 a day": 1.0,
    "1 a year": 1 / _YEAR_DAYS,
    "1 in 1,000 y": 1e-3 / _YEAR_DAYS,
    "never": _NEVER,
}
_SECONDS = (1, 5, 10, 15, 20, 30, 40, 50, 60)


class Point(NamedTuple):
    """What one length of TIME_WAIT means.

    Attributes:
        time_wait_s: the length.
        harmed_per_day: connections that read bytes not sent to them, expected.
        most_per_s: the rate that the ports suffice for.
    """

    time_wait_s: float
    harmed_per_day: float
    most_per_s: float


def often(per_day: float) -> str:
    """Say how often something happens that is expected so many times a day."""
    if per_day < _NEVER:
        return "never"
    if per_day >= 1:
        return f"{per_day:,.3g} a day"
    years = 1 / per_day / _YEAR_DAYS
    return f"1 in {years:,.0f} years" if years >= 2 else f"1 in {1 / per_day:,.0f} days"


def draw(points: Sequence[Point]) -> Markup:
    """Draw harmed connections a day over the length of TIME_WAIT.

    The scale of the first is logarithmic.
    """
    parts = []
    for text, per_day in _LINES.items():
        at = _y(per_day)
        parts.append(f'<path class="grid" d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick" text-anchor="end" x="{_LEFT - 6}" y="{at + 4:.1f}">{escape(text)}</text>')
    below = _HEIGHT - _BOTTOM + 16
    parts += [f'<text class="tick" text-anchor="middle" x="{_x(s):.1f}" y="{below}">{s}</text>' for s in _SECONDS]
    line = "L".join(f"{_x(point.time_wait_s):.1f} {_y(point.harmed_per_day):.1f}" for point in points)
    parts.append(f'<path class="line" d="M{line}"/>')
    words = "length of TIME_WAIT, s"
    parts.append(f'<text class="tick" text-anchor="middle" x="{_WIDTH / 2}" y="{_HEIGHT - 6}">{words}</text>')
    first, last = points[0], points[-1]
    title = escape(
        f"Harmed connections: {often(first.harmed_per_day)} at {first.time_wait_s:g} s, "
        f"{often(last.harmed_per_day)} at {last.time_wait_s:g} s of TIME_WAIT"
    )
    return Markup(
        f'<svg class="plot curve" role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}"><title>{title}</title>'
        f"{''.join(parts)}</svg>"
    )


def _x(time_wait_s: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * time_wait_s / _SECONDS[-1]


def _y(per_day: float) -> float:
    power = min(_HIGHEST, max(_LOWEST, log10(max(per_day, _NEVER))))
    return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * (power - _LOWEST) / (_HIGHEST - _LOWEST)
