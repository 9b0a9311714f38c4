"""Where built kernels are kept, and which of them is used.

A kept kernel is a folder with two files, `linux` and `kernel.json`; its name says what it was built
from and with. It comes into being by one rename, when it is complete. Root's kernels are kept for
everybody in /var/cache/twlab, any other user's in his own cache.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twlab.engines.kernel import recipe
from twlab.errors import CapabilityError, UsageError

EVERYBODYS = Path("/var/cache/twlab")
PROGRAM, FACTS = "linux", "kernel.json"
VARIABLE = "TWLAB_KERNEL"  # names the kernel to use, for this process and those that it starts
_NAME = re.compile(r"(?P<version>\d+\.\d+.*)-[0-9a-f]{12}-(?P<recipe>[0-9a-f]{12})")


@dataclass(frozen=True, slots=True)
class Kernel:
    """A lab kernel that can be booted: a program."""

    path: Path

    @property
    def series(self) -> str:
        """``7.3``, of a kernel that is kept here; of a program from elsewhere it is empty."""
        match = re.match(r"\d+\.\d+", self.path.parent.name) if self.facts() else None
        return match[0] if match else ""

    @property
    def clock(self) -> int | None:
        """Address of its virtual clock in the program, as far as it is known."""
        return self.facts().get("clock")

    def facts(self) -> dict[str, Any]:
        """Return what was noted at the build, see `twlab.engines.kernel.build`.

        It is empty for a program from elsewhere.
        """
        try:
            return json.loads((self.path.parent / FACTS).read_text())
        except (OSError, ValueError):
            return {}


def find(series: str = "") -> Kernel | None:
    """Return the lab kernel to use, built with today's recipe; None without one.

    Without `series` it is the one that TWLAB_KERNEL names, by its path or its series, or else the
    newest. Of several builds of one series, it is the one asked for last.

    Args:
        series: ``7.3``: the newest build of this series, regardless of TWLAB_KERNEL.

    Raises:
        UsageError: TWLAB_KERNEL names no program and no kernel that has been built
            (``bad-kernel``).
    """
    named = series or os.environ.get(VARIABLE, "")
    if not named:
        return next(iter(kept_kernels()), None)
    path = Path(named).absolute()
    if not series and path.is_file() and os.access(path, os.X_OK):
        return Kernel(path)
    if found := [kernel for kernel in kept_kernels() if kernel.series == named]:
        return found[0]
    if series:
        return None
    remedy = "unset it, or set it to a lab kernel: twlab kernel list shows those there are"
    raise UsageError(f"{VARIABLE}={named} is not a program, and no series that has been built", remedy, "bad-kernel")


def select(wanted: str) -> Kernel:
    """Make the lab kernel that a user asked for the one that `find` gives.

    It is so from now on, here and in every process that this one starts. Arguments and errors are
    those of `named`.
    """
    kernel = named(wanted)
    os.environ[VARIABLE] = str(kernel.path)
    return kernel


def named(wanted: str) -> Kernel:
    """Return the lab kernel that a user asked for.

    Args:
        wanted: a series, ``7.3``, or the path of a lab kernel.

    Raises:
        CapabilityError: none of that series has been built (``no-lab-kernel``).
        UsageError: `wanted` is neither a series nor a program (``bad-kernel``).
    """
    if re.fullmatch(r"\d+\.\d+", wanted):
        kernel = find(wanted)
        if kernel is None:
            remedy = f"build it, in about four minutes: twlab kernel build --version {wanted}"
            raise CapabilityError(
                f"the lab kernel of Linux {wanted} has not been built; {_there()}", remedy, "no-lab-kernel"
            )
    else:
        kernel = Kernel(Path(wanted).absolute())
        if not (kernel.path.is_file() and os.access(kernel.path, os.X_OK)):
            remedy = (
                "give a series, as in --kernel 7.3, or the path of a lab kernel; twlab kernel list shows "
                "those there are"
            )
            raise UsageError(f"{wanted} is neither a series of Linux nor a program", remedy, "bad-kernel")
    return kernel


def _there() -> str:
    series = dict.fromkeys(kernel.series for kernel in kept_kernels())
    return f"there is {', '.join(series)}" if series else "nor has any other"


def caches() -> list[Path]:
    """Return where to look for built kernels: this user's cache, then the shared one."""
    return list(dict.fromkeys((own_cache(), EVERYBODYS)))


def kept_kernels() -> list[Kernel]:
    """Return the kernels built with today's recipe, the newest series first.

    In a series, this user's come before those shared by all users, and the last used comes first.
    """
    found = []
    for rank, cache in enumerate(caches()):
        for folder in _readable(cache):
            name = _NAME.fullmatch(folder.name)
            if name and _complete(folder) and name["recipe"] == recipe.digest(name["version"]):
                found.append(((recipe.series(name["version"]), -rank, (folder / FACTS).stat().st_mtime_ns), folder))
    return [Kernel(folder / PROGRAM) for _, folder in sorted(found, reverse=True)]


def own_cache() -> Path:
    """Return the folder where this user's kernels are kept.

    It is $XDG_CACHE_HOME/twlab, or for root /var/cache/twlab, or ~/.cache/twlab.
    """
    if chosen := os.environ.get("XDG_CACHE_HOME"):
        return Path(chosen).absolute() / "twlab"
    return EVERYBODYS if os.geteuid() == 0 else Path(os.path.expanduser("~")) / ".cache" / "twlab"


def kept(name: str) -> Kernel | None:
    """Return the kernel kept under `name`, for this user or for all users.

    If it is this user's own, it becomes the one that is used.
    """
    for cache in (own_cache(), EVERYBODYS):
        folder = cache / "kernels" / name
        if _complete(folder):
            if os.access(folder / FACTS, os.W_OK):
                os.utime(folder / FACTS)
            return Kernel(folder / PROGRAM)
    return None


def keep(name: str, folder: Path) -> Kernel:
    """Take in `folder` under `name`.

    Args:
        name: the name of the build.
        folder: has both files, and lies on the cache's file system.
    """
    target = own_cache() / "kernels" / name
    os.rename(folder, target)
    return Kernel(target / PROGRAM)


@contextmanager
def claim(name: str, waiting: Callable[[], object]) -> Iterator[Path]:
    """Be the only one who builds `name`; yield the folder of this user's kernels.

    If another process builds it, `waiting()` is called first.

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
