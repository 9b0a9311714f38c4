"""Draws counts over time as a small inline SVG. Pure.

Colours come from the page's style sheet by class, so that they suit light and dark paper; lines
differ in dashes too. Drawn by hand: a plot of matplotlib takes 20 kB and a second to import, and
does not follow the page's colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil, floor, log10
from operator import itemgetter

from markupsafe import Markup, escape

from twlab.report.html.series import Plot, Points

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 520, 180, 56, 14, 26, 30
_MOST_CURVES = 6
_SHORTEST_S = 1e-6  # a shorter span is drawn as one second: its ticks would be zero or no numbers
Scale = Callable[[float], float]
_MOST_POINTS = 200  # of a curve: more than the paper can show


def draw(plot: Plot, last_s: float) -> Markup:
    """Return an ``<svg>`` with the curves of `plot` from 0 to `last_s`.

    Each value holds until the next.
    """
    curves = dict(list(plot.curves.items())[:_MOST_CURVES])
    last_s = max(last_s, *(points[-1][0] for points in curves.values()))
    if last_s < _SHORTEST_S:
        last_s = 1.0
    most = max(1.0, *(value for points in curves.values() for _, value in points))

    def x(at_s: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * at_s / last_s

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * value / _ticks(most)[-1]

    parts = []
    for value in _ticks(most):
        parts.append(f'<path class="grid" d="M{_LEFT} {y(value):.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text class="tick" text-anchor="end" x="{_LEFT - 6}" y="{y(value) + 4:.1f}">{value:,g}</text>')
    parts += [
        f'<text class="tick" text-anchor="middle" x="{x(at_s):.1f}" y="{_HEIGHT - 12}">{at_s:g} s</text>'
        for at_s in _ticks(last_s, within=True)
    ]
    for number, (name, points) in enumerate(curves.items()):
        hint = f"<title>{escape(name)}: at most {max(value for _, value in points):,g}</title>"
        parts.append(f'<path class="series s{number % 4}" d="{_path(points, last_s, x, y)}">{hint}</path>')
        x_key = _LEFT + 8 + number * (_WIDTH - _LEFT) // max(3, len(curves))
        parts.append(
            f'<path class="series s{number % 4}" d="M{x_key} 11h18"/>'
            f'<text class="key" x="{x_key + 24}" y="15">{escape(name)}</text>'
        )
    peaks = ", ".join(f"{name} at most {max(value for _, value in points):,g}" for name, points in curves.items())
    title = escape(f"{plot.title} over {last_s:.4g} s: {peaks}")
    return Markup(
        f'<svg class="plot" role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" style="max-width:{_WIDTH}px">'
        f"<title>{title}</title>{''.join(parts)}</svg>"
    )


def _path(points: Points, last_s: float, x: Scale, y: Scale) -> str:
    kept = list(_thinned(points))
    steps = "".join(f"H{x(at):.1f}V{y(value):.1f}" for at, value in kept[1:])
    return f"M{x(kept[0][0]):.1f} {y(kept[0][1]):.1f}{steps}H{x(last_s):.1f}"


def _thinned(points: Points) -> Iterator[tuple[float, float]]:
    """Yield some `_MOST_POINTS` points: the first, the last, the peaks and valleys between them."""
    if len(points) <= _MOST_POINTS:
        yield from points
        return
    every = ceil(2 * len(points) / _MOST_POINTS)
    yield points[0]
    for at in range(1, len(points) - 1, every):
        part = points[at : min(at + every, len(points) - 1)]
        yield from sorted({min(part, key=itemgetter(1)), max(part, key=itemgetter(1))})
    yield points[-1]


def _ticks(most: float, within: bool = False) -> list[float]:
    """Return a few round numbers from 0.

    Whole ones, up to the first that is not below `most`; or, `within`, up to the last that is not
    above it.
    """
    step = 10.0 ** floor(log10(most / 2))
    step = next(step * factor for factor in (1, 2, 5, 10) if most / (step * factor) <= 5)
    step = step if within else max(1.0, step)
    count = floor(most / step + 1e-9) if within else ceil(most / step - 1e-9)
    return [round(step * number, 9) for number in range(count + 1)]
