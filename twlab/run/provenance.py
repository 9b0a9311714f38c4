"""What a run stands on: versions, the kernel, the network."""

from __future__ import annotations

import os
import sys
from functools import cache
from typing import Any

_PACKAGES = ("twlab", "mininet", "pyroute2", "scapy", "netfilterqueue")


def versions() -> dict[str, str]:
    """Return the versions of twlab, of the libraries that shape a run, and of Python."""
    return dict(_versions())


@cache
def _versions() -> dict[str, str]:
    # An agent asks for no versions, and this loads 30 modules.
    from importlib.metadata import version

    return {package: version(package) for package in _PACKAGES} | {"python": sys.version.split()[0]}


def kernel() -> str:
    """Return release, version and machine of the kernel that this process runs on."""
    return " ".join(os.uname()[2:5])


def describe_network(topology: str) -> dict[str, Any]:
    """Return the nodes and links of `topology`, for the report's drawing.

    Raises:
        UsageError: the topology cannot be made.
    """
    from twlab.network import describe, load_topology

    return describe(load_topology(topology))
