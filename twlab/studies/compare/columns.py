"""What is compared: kernels side by side, or one kernel in two worlds."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from twlab.engines import kernel_path, use_kernel
from twlab.engines.kernel.recipe import series
from twlab.engines.kernel.store import Kernel, kept_kernels
from twlab.errors import UsageError
from twlab.lab_kernel import require_processor
from twlab.world import PINNED, WorldName

HOST = "host"
OWN = {"kernel": "defaults"}  # world to its column, where that is called otherwise


@dataclass(frozen=True, slots=True)
class Column:
    """One of the things compared.

    Attributes:
        name: ``7.3``, a program's name, or ``host``; of one kernel in two worlds, the world's.
        engine: ``guest`` or ``host``.
        kernel: path of the lab kernel; empty for the host.
        release: of the kernel, as far as it is known beforehand.
        world: what its nodes start from.
    """

    name: str
    engine: str
    kernel: str
    release: str
    world: WorldName = PINNED.name

    def as_dict(self) -> dict[str, str]:
        """Return what a comparison keeps of it."""
        about = {"name": self.name, "engine": self.engine, "kernel": self.release}
        return about if self.world == PINNED.name else {**about, "world": self.world}


def columns(kernels: Sequence[str], host: bool) -> list[Column]:
    """Return the columns, from the oldest series to the newest, the host last.

    Args:
        kernels: series or paths of lab kernels; none: every series that has been built.
        host: with this machine's own kernel.

    Raises:
        CapabilityError: a kernel has not been built (``no-lab-kernel``).
        UsageError: a text names no kernel (``bad-kernel``), two columns are the same
            (``same-column``), or there is only one (``nothing-to-compare``).
    """
    made = _named(kernels or [kernel.series for kernel in kept_kernels()], host)
    if twice := [name for name, count in Counter(column.name for column in made).items() if count > 1]:
        raise UsageError(
            f"two of the kernels are called {twice[0]}", "name each once; a path is called by its file", "same-column"
        )
    if len(made) < 2:
        require_processor()
        there = made[0].name if made else "no kernel"
        raise UsageError(
            f"there is only {there}, and nothing to compare it with",
            "name two kernels, as in --kernel 6.12 --kernel 7.3, or add --engine host; build more: twlab kernel build",
            "nothing-to-compare",
        )
    return made


def worlds(kernels: Sequence[str], host: bool, world: WorldName) -> list[Column]:
    """Return two columns of one kernel: the pinned world, and `world`.

    Args:
        kernels: at most one lab kernel; without one, and without `host`, the one that runs use.
        host: this machine's own kernel.
        world: what the nodes of the second column start from.

    Raises:
        CapabilityError: the kernel has not been built (``no-lab-kernel``).
        UsageError: a text names no kernel (``bad-kernel``), or there is more than one
            (``defaults-of-one-kernel``).
    """
    made = _named(kernels or [""] * (not host), host)
    if len(made) > 1:
        raise UsageError(
            f"--defaults compares one kernel with itself, and there are {len(made)}: "
            + ", ".join(column.name for column in made),
            "name one with --kernel, or --engine host alone; without --defaults kernels are compared",
            "defaults-of-one-kernel",
        )
    named: dict[str, WorldName] = {PINNED.name: PINNED.name, OWN.get(world, world): world}
    return [replace(made[0], name=name, world=of) for name, of in named.items()]


def _named(kernels: Sequence[str], host: bool) -> list[Column]:
    """Return a column for each kernel, from the oldest series to the newest, the host last."""
    made = [_guest(wanted) for wanted in dict.fromkeys(kernels)]
    made.sort(key=lambda column: series(column.release) if column.release else (999, 0))
    return [*made, Column(HOST, HOST, "", platform.release())] if host else made


def _guest(wanted: str) -> Column:
    use_kernel(wanted)
    kernel = Kernel(kernel_path())
    return Column(kernel.series or kernel.path.name, "guest", str(kernel.path), str(kernel.facts().get("version", "")))
