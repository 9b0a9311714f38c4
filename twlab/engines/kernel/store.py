"""Where built kernels are kept, and which of them is used.

A kept kernel is a folder with two files, `linux` and `kernel.json`; its name says what it was built
from and with. It comes into being by one rename, when it is complete. Root's kernels are kept for
everybody in /var/cache/twlab, any other user's in his own cache.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twlab.engines.kernel import recipe
from twlab.errors import CapabilityError, UsageError

EVERYBODYS = Path("/var/cache/twlab")
PROGRAM, FACTS = "linux", "kernel.json"


@dataclass(frozen=True, slots=True)
class Kernel:
    """A lab kernel that can be booted: a program."""

    path: Path

    def facts(self) -> dict[str, Any]:
        """What was noted when it was built, see `twlab.engines.kernel.build`; empty for a program
        from elsewhere.
        """
        try:
            return json.loads((self.path.parent / FACTS).read_text())
        except (OSError, ValueError):
            return {}


def find() -> Kernel | None:
    """The lab kernel to use: the program that TWLAB_KERNEL names, else, of those built with today's
    recipe, the one asked for last.

    Raises:
        UsageError: TWLAB_KERNEL names no program (``bad-kernel``).
    """
    if named := os.environ.get("TWLAB_KERNEL"):
        path = Path(named).absolute()
        if not (path.is_file() and os.access(path, os.X_OK)):
            remedy = "unset it, or set it to a lab kernel: twlab kernel build prints its path"
            raise UsageError(f"TWLAB_KERNEL={named} is not a program", remedy, "bad-kernel")
        return Kernel(path)
    for cache in dict.fromkeys((own_cache(), EVERYBODYS)):
        if kept := [
            folder for folder in _readable(cache) if folder.name.endswith(f"-{recipe.digest()}") and _complete(folder)
        ]:
            return Kernel(max(kept, key=lambda folder: (folder / FACTS).stat().st_mtime_ns) / PROGRAM)
    return None


def own_cache() -> Path:
    """Where this user's kernels are kept: $XDG_CACHE_HOME/twlab, or for root /var/cache/twlab, or
    ~/.cache/twlab.
    """
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen).absolute() / "twlab"
    return EVERYBODYS if os.geteuid() == 0 else Path(os.path.expanduser("~")) / ".cache" / "twlab"


def kept(name: str) -> Kernel | None:
    """The kernel kept under `name` for this user or for everybody; being asked for makes one's own
    the one that is used.
    """
    for cache in (own_cache(), EVERYBODYS):
        folder = cache / "kernels" / name
        if _complete(folder):
            if os.access(folder / FACTS, os.W_OK):
                os.utime(folder / FACTS)
            return Kernel(folder / PROGRAM)
    return None


def keep(name: str, folder: Path) -> Kernel:
    """Take in `folder`, which has both files and lies on the cache's file system, under `name`."""
    target = own_cache() / "kernels" / name
    os.rename(folder, target)
    return Kernel(target / PROGRAM)


@contextmanager
def claim(name: str, waiting: Callable[[], object]) -> Iterator[Path]:
    """Be the only one who builds `name`; calls `waiting()` if somebody else is at it. Yields the
    folder of this user's kernels.

    Raises:
        CapabilityError: the cache cannot be written to (``no-cache``).
    """
    folder = own_cache() / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / f".{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise CapabilityError(
            f"{folder} cannot be written to: {error.strerror}", "set XDG_CACHE_HOME to a folder of yours", "no-cache"
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        os.close(lock)


def _complete(folder: Path) -> bool:
    return os.access(folder / PROGRAM, os.X_OK) and (folder / FACTS).is_file()


def _readable(cache: Path) -> list[Path]:
    try:
        return [folder for folder in (cache / "kernels").iterdir() if not folder.name.startswith(".")]
    except OSError:
        return []
