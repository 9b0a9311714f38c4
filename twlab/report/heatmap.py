"""A sweep as a heat map: for each length of TIME_WAIT and each age of the old segment, what became of the application.

The only importer of matplotlib.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_COLOURS = {"harmed": (0.80, 0.20, 0.15), "delayed": (0.95, 0.80, 0.35), "unharmed": (0.45, 0.70, 0.50)}


def draw(rows: list[dict[str, Any]], title: str, stem: Path) -> list[Path]:
    """Write `stem` with .png and .svg: a panel for timestamps off, and one for on; a cell's colour mixes its outcomes by their shares.

    Args:
        rows: those of `twlab.sweep.Table.rows`.
        title: a line above.
        stem: path of the files; its suffix is replaced.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    panels = sorted({row["timestamps"] for row in rows})
    figure = Figure(figsize=(6.2 * len(panels), 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _panel(axes, [row for row in rows if row["timestamps"] == panel], "off" if float(panel) == 0 else "on")
    figure.suptitle(title)
    words = {"harmed": "harmed: foreign bytes read", "delayed": "only delayed: four-tuple refused", "unharmed": "nothing happened"}
    figure.legend(handles=[Patch(color=_COLOURS[name], label=words[name]) for name in words], loc="outside lower center", ncols=3, frameon=False)
    files = [stem.with_suffix(suffix) for suffix in (".png", ".svg")]
    for file in files:
        figure.savefig(file, dpi=150)
    return files


def _panel(axes: Any, rows: list[dict[str, Any]], timestamps: str) -> None:
    ages = sorted({row["delay_s"] for row in rows}, key=float)
    lengths = sorted({row["time_wait_s"] for row in rows}, key=float)
    image = [[(0.93, 0.93, 0.93)] * len(ages) for _ in lengths]
    for row in rows:
        x, y = ages.index(row["delay_s"]), lengths.index(row["time_wait_s"])
        shares = {name: row[name] / row["trials"] for name in _COLOURS}
        image[y][x] = tuple(sum(shares[name] * colour[part] for name, colour in _COLOURS.items()) for part in range(3))
        axes.text(x, y, f"{shares['harmed']:.0%}", ha="center", va="center", fontsize=9)
    axes.imshow(image, origin="lower", aspect="auto")
    axes.set_xticks(range(len(ages)), ages)
    axes.set_yticks(range(len(lengths)), lengths)
    axes.set_xlabel("age of the old segment at its arrival, s")
    axes.set_ylabel("length of TIME_WAIT, s")
    axes.set_title(f"timestamps {timestamps} (in each cell: harmed)")
