"""What the lab kernel is."""

from __future__ import annotations

import subprocess
from typing import Any

from twlab.engines.kernel import recipe, store
from twlab.errors import CapabilityError

_SYSCTLS = [
    "net.ipv4.tcp_timewait_len: length of TIME_WAIT in ms, 1 to 3600000 (60000)",
    "net.ipv4.tcp_tw_recycle: what Linux had until 4.11, 0 or 1 (0)",
    "net.ipv4.tcp_timestamp_offset: shift of the timestamp clock in ms (0)",
]


def info() -> dict[str, Any]:
    """Return facts about the lab kernel that `find` gives, by name.

    They are strings and lists of strings.

    Returns:
        ``version``, ``path``, ``size``, ``source``, ``compiler``, ``recipe`` (a digest of options
        and changes), ``changes``, ``sysctls`` (each with its unit, bounds and default) and
        ``options`` (as Kconfig writes them).

    Raises:
        CapabilityError: the lab kernel has not been built (``no-lab-kernel``).
        UsageError: TWLAB_KERNEL names no program (``bad-kernel``).
    """
    kernel = store.find()
    if kernel is None:
        raise CapabilityError(
            "the lab kernel has not been built",
            "build it once, in about four minutes: twlab kernel build",
            "no-lab-kernel",
        )
    facts = kernel.facts()
    version = facts.get("version") or _said_version(kernel)
    return {
        "version": version,
        "path": str(kernel.path),
        "size": f"{kernel.path.stat().st_size / 1e6:.1f} MB",
        "source": facts.get("source", "elsewhere: named by TWLAB_KERNEL"),
        "compiler": facts.get("compiler", "unknown"),
        "recipe": recipe.digest(version) if facts else "unknown",
        "changes": [f"{name}: {subject}" for name, subject in facts.get("changes", {}).items()],
        "sysctls": _SYSCTLS if facts else [],
        "options": facts.get("options", []),
    }


def _said_version(kernel: store.Kernel) -> str:
    """Return the first line of what the program says; a kernel's is its release."""
    said = subprocess.run([kernel.path, "--version"], capture_output=True, text=True, check=False).stdout
    return (said.splitlines() or ["unknown"])[0]
