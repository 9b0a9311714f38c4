"""Plots ceilings: connections a second against the length of TIME_WAIT.

Measured values stand beside theory. It imports matplotlib, as `heatmap` does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twlab.report.figures.lean import lean_import
from twlab.report.figures.write import write

_COLOURS = ("#1b6ca8", "#2a7f4f", "#a8501b")
_MARKS = ("o", "s", "^")


def draw(rows: list[dict[str, Any]], title: str, stem: Path) -> list[Path]:
    """Write the plot as .png and .svg: theory, measurements, the question's figures.

    Each number of ports has a line of theory and its measured points. For one length of TIME_WAIT
    there is no plot: it would be a point.

    Args:
        rows: those of `twlab.studies.ceiling.cases`; drawn are those of the group ``ports`` that
            have been measured.
        title: a line above.
        stem: path of the files; its suffix is replaced.

    Returns:
        The files; none if fewer than two lengths of TIME_WAIT have been measured.

    Raises:
        CapabilityError: they cannot be written (``cannot-write``).
    """
    drawn = [row for row in rows if row["group"] == "ports" and row["sustained_per_s"]]
    lengths = sorted({row["time_wait_s"] for row in drawn})
    if len(lengths) < 2:
        return []
    with lean_import():
        from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    axes = figure.subplots()
    for number, ports in enumerate(sorted({row["ports"] for row in drawn}, reverse=True)):
        _series(axes, [row for row in drawn if row["ports"] == ports], _COLOURS[number % 3], _MARKS[number % 3])
    mail = sorted({(row["time_wait_s"], row["mail_per_s"]) for row in drawn if row["mail_per_s"]})
    if mail:
        axes.plot(
            *zip(*mail, strict=True),
            "x",
            color="#b00020",
            markersize=9,
            markeredgewidth=2,
            label="the question's figures (“32K ports”)",
        )
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="length of TIME_WAIT, s",
        ylabel="new connections a second, to one destination",
        title=title,
    )
    axes.set_xticks(lengths, [f"{length:g}" for length in lengths])
    axes.minorticks_off()
    rates = doublings([row["sustained_per_s"] for row in drawn])
    axes.set_yticks(rates, [f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}" for rate in rates])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return write(figure, stem, dpi=130)


def doublings(rates: Sequence[float]) -> list[float]:
    """Return the ticks of an axis that shows `rates`, each twice the one before.

    They lie round all of `rates`; 1,000 is of them, where it is in reach.
    """
    low, high = math.floor(math.log2(min(rates) / 1000)), math.ceil(math.log2(max(rates) / 1000))
    return [1000 * 2.0**power for power in range(low, high + 1)]


def _series(axes: Any, rows: list[dict[str, Any]], colour: str, mark: str) -> None:
    """Draw one number of ports."""
    rows = sorted(rows, key=lambda row: float(row["time_wait_s"]))
    lengths = [row["time_wait_s"] for row in rows]
    axes.plot(
        lengths,
        [row["exact_per_s"] for row in rows],
        color=colour,
        linewidth=1,
        label=f"{rows[0]['ports']:,} ports: ports / TIME_WAIT",
    )
    axes.plot(
        lengths,
        [row["sustained_per_s"] for row in rows],
        mark,
        color=colour,
        markersize=7,
        fillstyle="none",
        label="   measured: no connect fails",
    )
