"""Asks installed programs for their versions."""

from __future__ import annotations

import re
import subprocess

from twlab.atlas import programs
from twlab.atlas.subject import Subject

_VERSION = re.compile(r"\d+\.\d+(?:[\w.]*\w)?(?:-\d+)?")
_LIMIT_S = 20.0


def version(subject: Subject) -> str:
    """Return a program's version, e.g. ``2.6.12-1``; empty if it does not say."""
    program = programs.path(subject)
    query = ["dpkg-query", "--show", "--showformat=${Version}", subject.package]
    return first_version(_said([program, *subject.version] if program and subject.version else query))


def first_version(text: str) -> str:
    """Return the first version that `text` has."""
    found = _VERSION.search(text)
    return found[0] if found else ""


def _said(command: list[str]) -> str:
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ended.stdout + ended.stderr
