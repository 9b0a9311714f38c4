"""What an unfinished measurement keeps: continued by the same one only, and removed at its end."""

from pathlib import Path

import pytest

from twlab.errors import UsageError
from twlab.studies.progress import Progress

SAME = {"study": "ceiling", "seed": 1, "cases": [[1, 2]]}


def unfinished(folder: Path) -> Path:
    """A file with one result."""
    progress = Progress(folder, SAME, "6.12")
    progress.record(3, {"row": 0.1})
    return progress.path


def test_what_is_done_comes_back_and_goes_at_the_end(tmp_path: Path) -> None:
    """Results are the same values; `finish` leaves nothing."""
    unfinished(tmp_path)
    again = Progress(tmp_path, SAME, "6.12")
    again.resume()
    assert again.done == {3: {"row": 0.1}}
    again.finish()
    assert not list(tmp_path.iterdir())
    again.finish()


def test_without_a_file_there_is_nothing_to_go_on_from(tmp_path: Path) -> None:
    """A first run."""
    progress = Progress(tmp_path, SAME)
    progress.resume()
    assert progress.done == {}


@pytest.mark.parametrize(
    ("other", "kernel", "named"), [({"seed": 2}, "", "seed"), ({"cases": []}, "", "cases"), ({}, "7.3", "kernel")]
)
def test_another_measurement_is_refused(other: dict[str, object], kernel: str, named: str, tmp_path: Path) -> None:
    """The message names what differs, and the file stays."""
    before = unfinished(tmp_path).read_text()
    with pytest.raises(UsageError, match="other-progress") as refused:
        Progress(tmp_path, {**SAME, **other}, kernel).resume()
    assert named in str(refused.value)
    assert unfinished(tmp_path).read_text() == before


def test_an_unknown_kernel_is_taken_on_trust(tmp_path: Path) -> None:
    """On a cluster the kernel is not known beforehand."""
    unfinished(tmp_path)
    Progress(tmp_path, SAME).resume()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1, "identity": {}, "kernel": "", "done": []}'])
def test_a_broken_file_is_named(text: str, tmp_path: Path) -> None:
    """It is neither used nor written over."""
    path = unfinished(tmp_path)
    path.write_text(text)
    with pytest.raises(UsageError, match="broken-progress"):
        Progress(tmp_path, SAME).resume()
    assert path.read_text() == text
