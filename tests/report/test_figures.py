"""Figures of matplotlib as files."""

import re
from pathlib import Path

import pytest

from twlab.errors import CapabilityError
from twlab.report.figures.ceiling_plot import doublings, draw
from twlab.report.figures.write import write


def figure():
    """Labels that a layout has to make room for."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(4, 3), layout="constrained")
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


def ceiling(time_wait_s: float, sustained_per_s: float) -> dict[str, object]:
    """What is drawn of a row of ceilings."""
    about = {"group": "ports", "ports": 200, "mail_per_s": None, "exact_per_s": sustained_per_s}
    return {**about, "time_wait_s": time_wait_s, "sustained_per_s": sustained_per_s}


def test_ceilings_are_drawn_from_two_lengths_on(tmp_path: Path) -> None:
    """One would be a point, and no line of theory."""
    rows = [ceiling(60, 3.3), ceiling(60, 3.2), ceiling(10, 20)]
    assert draw(rows[:2], "a title", tmp_path / "one") == [] == [*tmp_path.iterdir()]
    assert [file.name for file in draw(rows, "a title", tmp_path / "two")] == ["two.png", "two.svg"]


@pytest.mark.parametrize(
    ("rates", "ticks"),
    [
        ([452.6, 6414.0], [250, 500, 1000, 2000, 4000, 8000]),
        ([3.2, 20], [1.953125, 3.90625, 7.8125, 15.625, 31.25]),
        ([1000], [1000]),
    ],
)
def test_the_axis_of_ceilings_reaches_round_all_of_them(rates: list[float], ticks: list[float]) -> None:
    """Its ticks begin at or below the lowest, and end at or above the highest."""
    assert doublings(rates) == ticks
