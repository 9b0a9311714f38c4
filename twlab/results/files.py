"""Writes result files whole or not at all, and checks a place before a run.

A file is written beside its place under another name and renamed when it is complete. After a full
disk, an interruption or a crash, the place keeps what it had before.
"""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from twlab.errors import CapabilityError

_PROBE_BYTES = 4096  # one block: an empty file finds room on a full disk


def cannot_write(place: Path, error: OSError) -> CapabilityError:
    """Return the one message for a place that takes no results (``cannot-write``)."""
    reason = error.strerror or str(error)
    return CapabilityError(
        f"results cannot be written to {place}: {reason}",
        "name another folder with --out, or make room in this one",
        "cannot-write",
    )


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that becomes `path` when the block ends, or vanishes if it fails.

    The folder has to exist. All users can read the new file, as far as the umask allows. A link is
    followed. A device or a pipe (``/dev/stdout``) cannot be replaced, and is written to.

    Raises:
        OSError: the file cannot be made, written or renamed; what was at `path` is still there.
    """
    named, path = path, Path(os.path.realpath(path))
    if named.is_relative_to("/dev") or (path.exists() and not path.is_file()):
        with path.open("wb") as file:
            yield file
        return
    fd, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}-", suffix=".part")
    try:
        with os.fdopen(fd, "wb") as file:
            yield file
        umask = os.umask(0o077)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def write_all(files: Mapping[Path, str | bytes]) -> None:
    """Write `files`, path to content, each whole or not at all; folders are made.

    Every file is complete under another name before the first is renamed, so a full disk changes
    none of them. Text is UTF-8. A character that UTF-8 cannot encode (from a file name of other
    bytes) becomes ``?``.

    Raises:
        CapabilityError: one cannot be written (``cannot-write``); folders made for it are removed.
    """
    place = Path()
    try:
        with _new_folders() as made, ExitStack() as stack:
            for place, content in files.items():
                _make(place.parent, made)
                file = stack.enter_context(replacing(place))
                file.write(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
                file.flush()
    except OSError as error:
        raise cannot_write(place.parent, error) from error


def check_folder(folder: Path) -> None:
    """Check that `folder` takes a file, by writing one and removing it.

    Raises:
        CapabilityError: it does not (``cannot-write``): no right, no room, or a file has its name.
    """
    made: list[Path] = []
    try:
        _make(folder, made)
        fd, probe = tempfile.mkstemp(dir=folder, prefix=".twlab-")
        try:
            os.write(fd, bytes(_PROBE_BYTES))
        finally:
            os.close(fd)
            os.unlink(probe)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        _remove(made)


def check_file(path: Path) -> None:
    """Check that the file `path` can be written, as `check_folder` does.

    Raises:
        CapabilityError: it cannot (``cannot-write``).
    """
    if path.is_dir():
        raise cannot_write(path, IsADirectoryError(errno.EISDIR, "it is a folder, and a file is to be written"))
    if not path.is_relative_to("/dev") and (path.is_file() or not path.exists()):
        check_folder(Path(os.path.realpath(path)).parent)


@contextmanager
def _new_folders() -> Iterator[list[Path]]:
    """Yield a list for the folders that the block makes; they are removed if it fails."""
    made: list[Path] = []
    try:
        yield made
    except BaseException:
        _remove(made)
        raise


def _make(folder: Path, made: list[Path]) -> None:
    """Make `folder` and its missing parents; add each to `made`, the lowest last."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        made.append(each)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file stands in the way")


def _remove(folders: list[Path]) -> None:
    """Remove `folders`, the last first, where they are empty."""
    for folder in reversed(folders):
        with suppress(OSError):
            folder.rmdir()
