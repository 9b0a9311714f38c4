"""The ladder of one arm for a page, or why there is none."""

from __future__ import annotations

from pathlib import Path

from markupsafe import Markup

from twlab.errors import LabError
from twlab.report import ladder, ladder_svg


def draw(folder: Path, arm: str) -> tuple[Markup, Markup, str]:
    """The ladder as ``<svg>``, the same unfolded (empty where nothing is folded), and why there is neither, if so.

    Both lack their style, which a page needs only once: `ladder_svg.STYLE`.
    """
    try:
        read = ladder.read(folder, arm)
    except LabError as error:
        return Markup(""), Markup(""), str(error)
    folded, unfolded = (ladder_svg.draw(one).replace(f"<style>{ladder_svg.STYLE}</style>", "") for one in (read, read.unfolded()))
    return Markup(folded), Markup(unfolded if unfolded != folded else ""), ""
