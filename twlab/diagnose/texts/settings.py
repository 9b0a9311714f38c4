"""Reads `sysctl -a`, and /proc/sys printed by grep."""

from __future__ import annotations

import re
from collections.abc import Iterable

from twlab.diagnose.texts.gathered import Gathered

_ASSIGNED = re.compile(r"([a-z][\w./-]*) ?= ?(.*)")
_PRINTED = re.compile(r"/proc/sys/([\w./-]+):(.*)")


def parse(lines: Iterable[str], into: Gathered, _heading: str = "") -> None:
    """Add the settings of `lines`, those of the network alone."""
    for line in lines:
        found = _ASSIGNED.match(line) or _PRINTED.match(line)
        if found and (name := found[1].replace("/", ".")).startswith(("net.", "kernel.osrelease", "kernel.hostname")):
            into.settings[name] = " ".join(found[2].split())
