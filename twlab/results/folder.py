"""Makes a new folder for a run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from twlab import loop
from twlab.errors import CapabilityError
from twlab.results.files import cannot_write

_MOST_A_SECOND = 10_000


def now() -> datetime:
    """Return the wall clock's time, in UTC."""
    return datetime.fromtimestamp(loop.wall_s(), UTC)


def new_folder(out: Path, name: str) -> Path:
    """Make ``<out>/<time>-<name>``, with a number where that exists; return its path.

    Raises:
        CapabilityError: it cannot be made (``cannot-write``).
    """
    stem = f"{now():%Y%m%d-%H%M%S}-{name}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        for number in range(1, _MOST_A_SECOND):
            folder = out / (stem if number == 1 else f"{stem}-{number}")
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                continue
    except OSError as error:
        raise cannot_write(out, error) from error
    raise CapabilityError(f"{out} holds too many runs of this second", "name another folder with --out", "cannot-write")
