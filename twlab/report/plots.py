"""Drawings of the report as small inline SVG: the topology, and the TIME_WAIT sockets over time. Pure.

Colours come from the page's style sheet by class, so that a drawing is right on light and on dark paper. Drawn by hand: a plot of
matplotlib takes 20 kB and a second to import, and does not follow the page's colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, floor, log10
from typing import Any

from markupsafe import Markup, escape

_BOX_WIDTH, _BOX_HEIGHT, _STEP_X, _STEP_Y = 96, 40, 150, 56
_MOST_ROWS = 8  # nodes drawn one below the other; the rest of a column is counted
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 520, 170, 44, 34


def topology(nodes: Mapping[str, str], links: Sequence[Sequence[str]]) -> Markup:
    """Nodes (name to role) and links (pairs of names) as a drawing, the clients' side on the left of the wire."""
    columns = _columns(nodes, links)
    rows = max(len(column) for column in columns)
    width, height = _STEP_X * len(columns) - _STEP_X + _BOX_WIDTH + 8, _STEP_Y * rows
    at = {
        name: (4 + x * _STEP_X, (height - _STEP_Y * len(column)) / 2 + y * _STEP_Y + (_STEP_Y - _BOX_HEIGHT) / 2)
        for x, column in enumerate(columns)
        for y, name in enumerate(column)
    }
    parts = [
        f'<line x1="{at[a][0] + _BOX_WIDTH / 2:g}" y1="{at[a][1] + _BOX_HEIGHT / 2:g}" '
        f'x2="{at[b][0] + _BOX_WIDTH / 2:g}" y2="{at[b][1] + _BOX_HEIGHT / 2:g}"/>'
        for a, b in links
        if a in at and b in at
    ]
    for name, (x, y) in at.items():
        role = nodes.get(name, "more")
        parts.append(
            f'<g class="node {escape(role)}"><rect x="{x:g}" y="{y:g}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="6"/>'
            f'<text x="{x + _BOX_WIDTH / 2:g}" y="{y + 18:g}">{escape(name)}</text>'
            f'<text class="role" x="{x + _BOX_WIDTH / 2:g}" y="{y + 32:g}">{escape("" if role == "more" else role)}</text></g>'
        )
    told = escape("; ".join(f"{a} to {b}" for a, b in links))
    return _svg("topology", width, height, f"The network. Links: {told}", parts)


def time_wait(samples: Sequence[Mapping[str, Any]], moments_s: Sequence[float]) -> Markup:
    """TIME_WAIT sockets over time, a line for each node.

    Args:
        samples: ``{"at_s", "node", "count"}``, see `twlab.lab.Lab.sample`; an empty table leaves none.
        moments_s: when all tables were looked at: a node without a sample there had no TIME_WAIT socket.

    Returns:
        An ``<svg>``; empty if there never was a TIME_WAIT socket.
    """
    if not samples:
        return Markup("")
    series: dict[str, dict[float, int]] = {}
    for sample in samples:
        series.setdefault(sample["node"], {})[sample["at_s"]] = sample.get("count", len(sample["sockets"]))
    taken = {node: {min(moments_s, key=lambda moment: abs(moment - at)) for at in points} for node, points in series.items()} if moments_s else {}
    for node, points in series.items():
        points.update({moment: 0 for moment in moments_s if moment not in taken[node]})
    last_s = max(at for points in series.values() for at in points) or 1.0
    most = _ceiling(max(count for points in series.values() for count in points.values()))

    def x(at_s: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - 12) * at_s / last_s

    def y(count: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - 24) * count / most

    parts = [f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - 12}" y1="{y(0):g}" y2="{y(0):g}"/>']
    parts += [f'<text class="tick" text-anchor="end" x="{_LEFT - 6}" y="{y(count) + 4:g}">{count:,}</text>' for count in (0, most)]
    parts.append(f'<text class="tick" x="{_LEFT}" y="{_HEIGHT - 14}">0 s</text>')
    parts.append(f'<text class="tick" text-anchor="end" x="{_WIDTH - 12}" y="{_HEIGHT - 14}">{last_s:.4g} s</text>')
    for number, (node, points) in enumerate(series.items()):
        ordered = sorted(points.items())
        line = " ".join(f"{x(at):.1f},{y(count):.1f}" for at, count in ordered)
        parts.append(f'<polyline class="series s{number % 4}" points="{line}"/>')
        for at, count in ordered:
            told = f"<title>{escape(node)}: {count:,} at {at:g} s</title>"
            parts.append(f'<circle class="series s{number % 4}" cx="{x(at):.1f}" cy="{y(count):.1f}" r="3">{told}</circle>')
        parts.append(f'<text class="key s{number % 4}" x="{_LEFT + 8 + 120 * number}" y="14">{escape(node)}</text>')
    peaks = ", ".join(f"{node} at most {max(points.values()):,}" for node, points in series.items())
    return _svg("plot", _WIDTH, _HEIGHT, f"TIME_WAIT sockets over time: {escape(peaks)}", parts)


def _columns(nodes: Mapping[str, str], links: Sequence[Sequence[str]]) -> list[list[str]]:
    """Names by column, from left to right: how far from the wire, and on which side of it."""
    near: dict[str, list[str]] = {name: [] for name in nodes}
    for a, b in links:
        near[a].append(b)
        near[b].append(a)
    centre = next((name for name, role in nodes.items() if role == "wire"), next(iter(nodes)))
    column = {centre: 0}
    for first in near[centre]:
        part = _reach(first, centre, near)
        side = 1 if any(name.startswith("s") for name in part) and not any(name.startswith("c") for name in part) else -1
        for name, distance in part.items():
            column.setdefault(name, side * distance)
    for name in nodes:
        column.setdefault(name, 0)
    columns = [[name for name in nodes if column[name] == number] for number in range(min(column.values()), max(column.values()) + 1)]
    return [_short(names) for names in columns if names]


def _short(names: list[str]) -> list[str]:
    """A column that fits: the last of too many names says how many more there are."""
    return names if len(names) <= _MOST_ROWS else [*names[: _MOST_ROWS - 1], f"and {len(names) - _MOST_ROWS + 1} more"]


def _reach(start: str, without: str, near: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Every node that can be reached from `start` without crossing `without`, with its distance from the latter."""
    distance, edge = {start: 1}, [start]
    while edge:
        ahead = [name for known in edge for name in near[known] if name != without and name not in distance]
        distance |= dict.fromkeys(ahead, distance[edge[0]] + 1)
        edge = list(dict.fromkeys(ahead))
    return distance


def _ceiling(most: int) -> int:
    """The least number of one leading figure that is not below `most`."""
    scale = 10 ** floor(log10(max(most, 1)))
    return int(ceil(max(most, 1) / scale) * scale)


def _svg(kind: str, width: float, height: float, told: str, parts: Sequence[str]) -> Markup:
    return Markup(
        f'<svg class="{kind}" role="img" viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px"><title>{told}</title>{"".join(parts)}</svg>'
    )
