"""Figures of matplotlib as files."""

import re
from pathlib import Path

import pytest

from twlab.errors import CapabilityError
from twlab.report.figures.write import write


def figure():
    """Labels that a layout has to make room for."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(4, 3), layout="constrained")
    FigureCanvasAgg(made)
    axes = made.subplots()
    axes.plot([1, 2, 3], [400, 500, 600], label="a line")
    axes.set(xlabel="length of TIME_WAIT, s", ylabel="connections\na second", title="a title")
    axes.legend()
    return made


def test_the_same_figure_is_the_same_files(tmp_path: Path) -> None:
    """To the byte, with no date in them; the PNG is what matplotlib makes of it by itself."""
    one, other = (write(figure(), tmp_path / stem, dpi=100) for stem in ("one", "other"))
    assert [file.suffix for file in one] == [".png", ".svg"]
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in other]
    assert "<dc:date>" not in one[1].read_text()
    figure().savefig(tmp_path / "alone.png", dpi=100)
    assert (tmp_path / "alone.png").read_bytes() == one[0].read_bytes()


def test_the_svg_has_room_for_its_labels(tmp_path: Path) -> None:
    """Its layout is the PNG's: the axes begin where those of a figure drawn as SVG alone begin, to a
    point.
    """
    svg = write(figure(), tmp_path / "one", dpi=100)[1].read_text()
    figure().savefig(tmp_path / "alone.svg")
    corner = re.compile(r'<g id="patch_2">\s*<path d="M ([\d.]+) ([\d.]+)')
    ours, alone = (corner.search(text) for text in (svg, (tmp_path / "alone.svg").read_text()))
    assert ours and alone
    assert [float(part) for part in ours.groups()] == pytest.approx([float(part) for part in alone.groups()], abs=1)


def test_a_folder_that_is_not_there_is_a_message(tmp_path: Path) -> None:
    """And no file of the two is left."""
    (tmp_path / "file").write_text("")
    with pytest.raises(CapabilityError) as caught:
        write(figure(), tmp_path / "file" / "one", dpi=100)
    assert caught.value.slug == "cannot-write"
