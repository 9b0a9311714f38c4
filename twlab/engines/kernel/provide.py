"""Provides the lab kernel that a user asked for; fetches its source if needed.

If the user asked for no certain one, it is the newest that can be had.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from twlab.engines.kernel import recipe, store
from twlab.engines.kernel import source as sources
from twlab.engines.kernel.build import Progress, build
from twlab.engines.kernel.fetch import SUITES, fetch
from twlab.engines.kernel.store import Kernel
from twlab.errors import CapabilityError
from twlab.lab_kernel import require_processor

# What stands against the newest kernel and not against another one.
_OF_THE_KERNEL = {
    "no-kernel-source",
    "broken-source",
    "changes-do-not-fit",
    "options-did-not-take",
    "kernel-does-not-build",
}


def provide(
    source: Path | None = None,
    version: str | None = None,
    progress: Progress = lambda share, doing: None,
    say: Callable[[str], object] = lambda text: None,
) -> Kernel:
    """Build a lab kernel, see `build`; first fetch a package that is not at hand.

    `twlab.engines.kernel.fetch` fetches it.

    Args:
        source: an unpacked tree, or a package's file.
        version: the series of a package; None, and no `source`: the newest tested one, or if it
            cannot be had or built here, the newest tested one whose source is at hand.
        say: called with a sentence when it is not the newest.

    Raises:
        UsageError, CapabilityError: as `build` and `fetch`.
    """
    if source is not None:
        return build(source, version, progress)
    require_processor()
    newest, *older = sources.TESTED
    try:
        fetch(version or newest, progress)
        return build(None, version or newest, progress)
    except CapabilityError as error:
        second = next((series for series in older if series in sources.at_hand()), None)
        if version or second is None or error.slug not in _OF_THE_KERNEL:
            raise
        say(f"{error.message}; so the lab kernel is made of Linux {second}")
    return build(None, second, progress)


def overview() -> list[dict[str, Any]]:
    """Return the series that are built or could be, the newest first; JSON values.

    Returns:
        For each ``series``, ``state`` (``built``, ``source here`` or ``to be fetched``),
        ``version``, ``path`` and ``source`` where they are known, and ``default``: whether it is
        the kernel that `twlab.engines.kernel.find` gives.
    """
    chosen = store.find()
    found: list[dict[str, Any]] = []
    for kernel in store.kept_kernels():
        facts = kernel.facts()
        about = {"series": kernel.series, "state": "built", "version": facts["version"], "path": str(kernel.path)}
        found.append({**about, "source": facts["source"], "default": kernel == chosen})
    built, at_hand = {row["series"] for row in found}, sources.at_hand()
    for series in {*at_hand, *SUITES} - built:
        path = at_hand.get(series)
        about = {"series": series, "state": "source here" if path else "to be fetched", "version": None, "path": None}
        found.append(
            {**about, "source": str(path) if path else f"Debian's suite {SUITES[series][0]}", "default": False}
        )
    found.sort(key=lambda row: recipe.series(row["series"]), reverse=True)
    if chosen and not any(row["default"] for row in found):
        about = {"series": "", "state": "built", "version": None, "path": str(chosen.path)}
        found.insert(0, {**about, "source": f"elsewhere: named by {store.VARIABLE}", "default": True})
    return found
