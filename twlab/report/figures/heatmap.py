"""Draws a sweep as a heat map of the outcomes for the application.

Its axes are the length of TIME_WAIT and the age of the old segment. It imports matplotlib, as
`ceiling_plot` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twlab.report.figures.lean import lean_import
from twlab.report.figures.write import write

# Each darker than the next, so that they differ without colours, too.
_COLOURS = {"harmed": (0.62, 0.11, 0.11), "delayed": (0.93, 0.75, 0.35), "unharmed": (0.90, 0.96, 0.92)}
_WORDS = {
    "harmed": "harmed: it read bytes that its peer had not sent",
    "delayed": "delayed: refused until TIME_WAIT was over",
    "unharmed": "unharmed: connected at once, read what was sent",
}
_INK = {"harmed": "white", "delayed": "black", "unharmed": "black"}


def draw(rows: list[dict[str, Any]], title: str, stem: Path) -> list[Path]:
    """Write the heat map as .png and .svg: a panel without timestamps, one with.

    A cell's colour mixes its outcomes by their shares.

    Args:
        rows: those of `twlab.studies.sweep.table.SweepTable.rows`.
        title: a line above.
        stem: path of the files; its suffix is replaced.

    Returns:
        The files.

    Raises:
        CapabilityError: they cannot be written (``cannot-write``).
    """
    with lean_import():
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch

    panels = sorted({row["timestamps"] for row in rows})
    columns = len({row["delay_s"] for row in rows})
    figure = Figure(figsize=(max(7.0, 1.5 + 0.7 * columns) * len(panels), 5.4), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _panel(axes, [row for row in rows if row["timestamps"] == panel], "off" if float(panel) == 0 else "on")
    figure.suptitle(title)
    handles: list[Any] = [
        Patch(facecolor=_COLOURS[name], edgecolor="black", linewidth=0.5, label=_WORDS[name]) for name in _WORDS
    ]
    handles.append(Line2D([], [], color="black", linewidth=2, linestyle="--", label="age = length of TIME_WAIT"))
    figure.legend(handles=handles, loc="outside lower center", ncols=2 if len(panels) > 1 else 1, frameon=False)
    return write(figure, stem, dpi=150)


def _panel(axes: Any, rows: list[dict[str, Any]], timestamps: str) -> None:
    ages = sorted({row["delay_s"] for row in rows}, key=float)
    lengths = sorted({row["time_wait_s"] for row in rows}, key=float)
    image = [[(1.0, 1.0, 1.0)] * len(ages) for _ in lengths]
    for row in rows:
        x, y = ages.index(row["delay_s"]), lengths.index(row["time_wait_s"])
        shares = {name: row[name] / row["trials"] for name in _COLOURS}
        image[y][x] = tuple(sum(shares[name] * colour[part] for name, colour in _COLOURS.items()) for part in range(3))
        most = max(shares, key=lambda name: shares[name])
        text = "\n".join(f"{share:.1%}\n{name}" if share < 1 else name for name, share in shares.items() if share)
        axes.text(x, y, text, ha="center", va="center", fontsize=7, color=_INK[most])
    axes.imshow(image, origin="lower", aspect="auto")
    # The edge by theory: in the row of each length, left of the first age that is above it.
    edge = [sum(float(age) <= float(length) for age in ages) - 0.5 for length in lengths]
    corners = [(x, y + half) for y, x in enumerate(edge) for half in (-0.5, 0.5)]
    axes.plot([x for x, _ in corners], [y for _, y in corners], color="black", linewidth=2, linestyle="--")
    axes.set_xlim(-0.5, len(ages) - 0.5)
    axes.set_xticks(range(len(ages)), [f"{float(age):g}" for age in ages])
    axes.set_yticks(range(len(lengths)), [f"{float(length):g}" for length in lengths])
    axes.set_xlabel("age of the old segment when it arrives, in seconds")
    axes.set_ylabel("length of TIME_WAIT, in seconds")
    axes.set_title(f"timestamps {timestamps}")
