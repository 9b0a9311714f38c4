"""Refuses commands that would never end where they cannot be interrupted."""

from __future__ import annotations

import re

from twlab.errors import UsageError

_MEASURES = re.compile(r"\b(iperf3?(?!.*\s(-s|--server)\b)|netperf|wrk|hey)\b")  # programs that run for a time
_BOUNDED = re.compile(r"\s(-n|--num|--bytes)\b")
_PINGS = re.compile(r"\bping\b(?!\s*$)")
_COUNTED = re.compile(r"\s-[a-zA-Z]*[cw]\s*\d")


def check(command: str, *, virtual: bool, typed: bool) -> None:
    """Check that a node's command ends, as far as that can be seen.

    Args:
        virtual: time passes only while nothing computes.
        typed: a person is there to interrupt it.

    Raises:
        UsageError: it would never end (``never-ends``).
    """
    if virtual and _MEASURES.search(command) and not _BOUNDED.search(command):
        raise UsageError(
            f"{command}: it runs for a time, and in virtual time none passes while it computes, so it would never end",
            "bound it by volume, e.g. iperf -c server -n 10M; or use --engine host, where time is real",
            "never-ends",
        )
    if not typed and _PINGS.search(command) and not _COUNTED.search(command):
        raise UsageError(f"{command}: it would never end", "say how often, e.g. ping -c 3 server", "never-ends")
