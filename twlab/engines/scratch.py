"""Scratch folders of workers: removed with their worker, or after it.

A worker that gets SIGKILL removes nothing. So it holds a lock on its folder, which ends with it,
and the next worker of the same user removes the folders that nothing locks.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_PREFIX = ".twlab-scratch-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder for the block, and remove those whose workers were killed."""
    place = Path(tempfile.gettempdir())
    _remove_abandoned(place)
    folder, lock = _make(place)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _make(place: Path) -> tuple[Path, int]:
    """Make a folder and lock it; returns it with the open file that has the lock."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=place))
        try:
            lock = _open(folder)
        except FileNotFoundError:  # before it was locked, it was taken for an abandoned one
            continue
        with suppress(OSError):  # a file system without locks: none is removed there
            fcntl.flock(lock, fcntl.LOCK_SH)
        if folder.exists():
            return folder, lock
        os.close(lock)


def _remove_abandoned(place: Path) -> None:
    for folder in place.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # it is another user's, or gone, or in use
            lock = _open(folder)
            try:
                if os.fstat(lock).st_uid == os.geteuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _open(folder: Path) -> int:
    return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
