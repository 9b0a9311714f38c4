"""Draws the topology as a small inline SVG. Pure.

Colours come from the page's style sheet by class, so that they suit light and dark paper. Drawn by
hand: a plot of matplotlib takes 20 kB and a second to import, and does not follow the page's
colours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

_BOX_WIDTH, _BOX_HEIGHT, _STEP_X, _STEP_Y = 96, 40, 150, 56
_MOST_ROWS = 8  # nodes drawn one below the other; the rest of a column is counted


def topology(nodes: Mapping[str, str], links: Sequence[Sequence[str]]) -> Markup:
    """Draw nodes and links, the clients' side on the left of the wire.

    Args:
        nodes: name to role.
        links: pairs of names.
    """
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
            f'<g class="node {escape(role)}">'
            f'<rect x="{x:g}" y="{y:g}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="6"/>'
            f'<text x="{x + _BOX_WIDTH / 2:g}" y="{y + 18:g}">{escape(name)}</text>'
            f'<text class="role" x="{x + _BOX_WIDTH / 2:g}" y="{y + 32:g}">'
            f"{escape('' if role == 'more' else role)}</text></g>"
        )
    linked = escape("; ".join(f"{a} to {b}" for a, b in links))
    return _svg("topology", width, height, f"The network. Links: {linked}", parts)


def _columns(nodes: Mapping[str, str], links: Sequence[Sequence[str]]) -> list[list[str]]:
    """Return the names by column, from left to right.

    A node's column is its distance from the wire, and the side of the wire that it is on.
    """
    near: dict[str, list[str]] = {name: [] for name in nodes}
    for a, b in links:
        near[a].append(b)
        near[b].append(a)
    centre = next((name for name, role in nodes.items() if role == "wire"), next(iter(nodes)))
    column = {centre: 0}
    for first in near[centre]:
        part = _reach(first, centre, near)
        side = (
            1 if any(name.startswith("s") for name in part) and not any(name.startswith("c") for name in part) else -1
        )
        for name, distance in part.items():
            column.setdefault(name, side * distance)
    for name in nodes:
        column.setdefault(name, 0)
    columns = [
        [name for name in nodes if column[name] == number]
        for number in range(min(column.values()), max(column.values()) + 1)
    ]
    return [_short(names) for names in columns if names]


def _short(names: list[str]) -> list[str]:
    """Return a column that fits: the last of too many names counts the rest."""
    return names if len(names) <= _MOST_ROWS else [*names[: _MOST_ROWS - 1], f"and {len(names) - _MOST_ROWS + 1} more"]


def _reach(start: str, without: str, near: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Return the nodes that `start` reaches without crossing `without`.

    Each has its distance from `without`.
    """
    distance, edge = {start: 1}, [start]
    while edge:
        ahead = [name for known in edge for name in near[known] if name != without and name not in distance]
        distance |= dict.fromkeys(ahead, distance[edge[0]] + 1)
        edge = list(dict.fromkeys(ahead))
    return distance


def _svg(kind: str, width: float, height: float, title: str, parts: Sequence[str]) -> Markup:
    return Markup(
        f'<svg class="{kind}" role="img" viewBox="0 0 {width:g} {height:g}" style="max-width:{width:g}px">'
        f"<title>{title}</title>{''.join(parts)}</svg>"
    )
