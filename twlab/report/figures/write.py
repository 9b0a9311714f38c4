"""Writes a figure of matplotlib as PNG and SVG.

The same figure makes the same files.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from twlab.results import files


def write(figure: Any, stem: Path, *, dpi: int) -> list[Path]:
    """Write `figure` in both formats, side by side.

    The SVG has the layout that the PNG has: finding one for each is a quarter of the work.

    Args:
        figure: of `matplotlib.figure.Figure`.
        stem: path of the files; its suffix is replaced.
        dpi: pixels an inch, of the PNG.

    Returns:
        The files.

    Raises:
        CapabilityError: they cannot be written (``cannot-write``).
    """
    from matplotlib import rc_context

    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=dpi)
    figure.set_layout_engine("none")
    with rc_context({"svg.hashsalt": "twlab"}):
        figure.savefig(svg, format="svg", dpi=dpi, metadata={"Date": None})
    drawings = {stem.with_suffix(".png"): png.getvalue(), stem.with_suffix(".svg"): svg.getvalue()}
    files.write_all(drawings)
    return list(drawings)
