"""Scratch folders: gone with their worker, or with the next one's beginning; no other is touched."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT

from twlab.engines import scratch
from twlab.engines.scratch import scratch_folder

WORKER = """
from twlab.engines.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "console.log").write_text("x")
    print(folder, flush=True)
    input()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, in this test."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def worker(place: Path) -> tuple[subprocess.Popen[str], Path]:
    """Start a process that has a scratch folder with a file in it, until it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "TMPDIR": str(place), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_it_is_there_for_the_block(place: Path) -> None:
    """Two at a time are two; each is gone with its block and all that is in it, also after an error."""
    with pytest.raises(OSError, match="full"), scratch_folder() as one:
        with scratch_folder() as other:
            (other / "below").mkdir()
            (other / "below" / "file").touch()
            assert [*one.iterdir()] == [] and one != other
        assert [*place.iterdir()] == [one]
        raise OSError("full")
    assert [*place.iterdir()] == []


def test_of_a_killed_worker_it_goes_with_the_next(place: Path) -> None:
    """That of one that works stays."""
    (killed, left), (works, used) = worker(place), worker(place)
    killed.kill()
    killed.communicate()
    assert left.exists()
    with scratch_folder() as own:
        assert {*place.iterdir()} == {used, own}
        assert (used / "console.log").exists()
    works.communicate("\n")
    assert works.returncode == 0
    assert [*place.iterdir()] == []


def test_nothing_else_is_removed(place: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A link stays, and what it leads to; so does a file, and a folder of another name."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "kept").touch()
    (place / ".twlab-scratch-link").symlink_to(elsewhere)
    (place / ".twlab-scratch-file").touch()
    (place / "twlab-scratch-mine").mkdir()
    with scratch_folder():
        pass
    assert len([*place.iterdir()]) == 3
    assert (elsewhere / "kept").exists()


def test_one_that_is_taken_for_an_abandoned_one_is_made_again(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker may look between its making and its locking."""
    taken: list[Path] = []
    lock = scratch._open

    def locked(folder: Path) -> int:
        if len(taken) < 2:
            taken.append(folder)
            fd = lock(folder) if len(taken) == 1 else -1
            folder.rmdir()
            if fd >= 0:
                return fd
        return lock(folder)

    monkeypatch.setattr(scratch, "_open", locked)
    with scratch_folder() as folder:
        assert len(taken) == 2 and folder not in taken
        assert folder.exists()
