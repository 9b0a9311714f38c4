"""Tells where the lab kernel can run, and which remedy that is.

It is user-mode Linux, which is for x86-64 only. `twlab.engines.kernel` builds it,
`twlab.engines.guest` boots it.
"""

from __future__ import annotations

import os
import platform

from twlab.errors import CapabilityError

PROCESSOR = "x86_64"
HOST_NAME = "lab-kernel"  # of each guest


def is_possible() -> bool:
    """Return whether the lab kernel can run on this processor."""
    return platform.machine() == PROCESSOR


def is_this() -> bool:
    """Return whether the kernel that this process runs on is a lab kernel."""
    return os.uname().nodename == HOST_NAME


def require_processor() -> None:
    """Raise CapabilityError (``other-processor``) where the lab kernel cannot run."""
    if not is_possible():
        message = f"the lab kernel is for x86-64, and this processor is {platform.machine()}"
        remedy = "use the host engine, which `twlab run` takes here by itself; twlab doctor says what it can do"
        raise CapabilityError(message, remedy, "other-processor")


def remedy() -> str:
    """Return the remedy for what this machine's kernel lacks and the lab kernel has."""
    place = "run it on the lab kernel" if is_possible() else "run it on an x86-64 machine, on the lab kernel"
    return f"{place}: --engine guest"


def remedy_for_setting() -> str:
    """Return the remedy for a setting that some kernels have, and this one lacks."""
    engines = " (--engine guest is the lab kernel, --engine host this machine's)" if is_possible() else ""
    return f"run it on another kernel{engines}, or leave this setting out"


def or_guest(first: str) -> str:
    """Return the remedy `first`, with the lab kernel as another where it can run."""
    return f"{first}; or use the lab kernel: --engine guest" if is_possible() else first
