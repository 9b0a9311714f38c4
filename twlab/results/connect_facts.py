"""Writes and reads the outcome of a connect() in the transcript.

It is written as a sentence and as details. Older runs have the sentence alone, or ``took_s``
beside it; the same function reads them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PENDING = "pending"
_DONE = "done"
# The sentences of runs that were recorded before the details had the outcome.
_CAME_ABOUT = re.compile(r"connects to ")
_FAILED = re.compile(r"(?P<call>connect|bind)\b.*(?: fails: (?P<error>.*)|: no answer yet.*)")


@dataclass(frozen=True, slots=True)
class ConnectFact:
    """One connect(), or the bind() before it.

    Attributes:
        error: name of the error, e.g. ``EADDRNOTAVAIL``; ``pending``: no answer within the time
            given; empty: connected.
        call: the system call that failed or waits: ``connect`` or ``bind``.
        took_s: seconds from the call to its outcome; None: not measured.
    """

    error: str = ""
    call: str = "connect"
    took_s: float | None = None

    def text(self, to: str, source_port: int = 0) -> str:
        """Return the sentence for the transcript.

        Args:
            to: the other end, e.g. ``server port 80``.
            source_port: the local port, where it is known; 0: it is not.
        """
        source = f" from port {source_port}" if source_port else ""
        if not self.error:
            return f"connects to {to}{source}"
        if self.error == PENDING:
            return f"{self.call} to {to}{source}: no answer yet after {self.took_s or 0.0:.4g} s"
        return f"{self.call} to {to}{source} fails: {self.error}"

    def details(self) -> dict[str, Any]:
        """Return the details of a transcript entry.

        ``connect`` is the outcome, ``call`` the call unless it is connect(), ``took_s`` the seconds
        that it took, if known.
        """
        call = {} if self.call == "connect" else {"call": self.call}
        took = {} if self.took_s is None else {"took_s": round(self.took_s, 6)}
        return {"connect": self.error or _DONE, **call, **took}


def read(entry: Mapping[str, Any]) -> ConnectFact | None:
    """Return what an entry of a recorded transcript says of a connect(), or None."""
    details = entry.get("details") or entry
    took_s = details.get("took_s")
    if "connect" in details:
        outcome = details["connect"]
        return ConnectFact("" if outcome == _DONE else outcome, details.get("call", "connect"), took_s)
    if entry["kind"] != "verb":
        return None
    if _CAME_ABOUT.match(entry["text"]):
        return ConnectFact(took_s=took_s)
    if failed := _FAILED.match(entry["text"]):
        return ConnectFact(failed["error"] or PENDING, failed["call"], took_s)
    return None
