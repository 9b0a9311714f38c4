"""What can go wrong, sorted by who must act.

    LabError                  base: a message, a remedy, a slug to look up, an exit status
    ├── UsageError       2    you asked for something that cannot be: a wrong name, a bad value, a broken file
    ├── CapabilityError  3    this machine cannot: a missing program, right, kernel feature or disk space
    ├── ScenarioError    1    the scenario itself is at fault: a step that cannot be taken, a check that checks nothing
    └── EngineError      1    the engine failed under a sound scenario: a guest that panicked, hung, or was killed

A verdict is never an error: a refuted scenario is a result. Every error reaches the user as one
message with its remedy, never as a traceback; the slug in brackets is the heading under which
`docs/reference/messages.md` explains it.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LabError(Exception):
    """Base of all errors that twlab raises on purpose.

    Args:
        message: what is wrong, one sentence, naming the thing.
        remedy: what to do about it, nearly always a command or a setting. Empty only where nothing
            can be done.
        slug: short stable name of the kind of failure, e.g. ``no-such-scenario``.
    """

    exit_status = 1

    def __init__(self, message: str, remedy: str = "", slug: str = "error"):
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.slug = slug

    def __str__(self) -> str:
        text = f"{self.message} [{self.slug}]"
        return f"{text}\n  remedy: {self.remedy}" if self.remedy else text

    def as_dict(self) -> dict[str, str]:
        """As a result keeps it: slug, message, remedy, and who must act (the name of the class)."""
        return {"slug": self.slug, "message": self.message, "remedy": self.remedy, "kind": type(self).__name__}

    def __reduce__(self) -> tuple[type[LabError], tuple[str, str, str]]:
        return type(self), (self.message, self.remedy, self.slug)


class UsageError(LabError):
    """The request is at fault: an unknown name, a value out of range, a file that cannot be read as
    what it should be.
    """

    exit_status = 2


class CapabilityError(LabError):
    """The machine is at fault: it lacks a program, a right, a kernel feature, or space."""

    exit_status = 3


class ScenarioError(LabError):
    """The scenario is at fault: a step that cannot be taken, or a scenario that observes nothing."""


class EngineError(LabError):
    """The engine is at fault: the lab's processes died, hung, or answered with something that is
    not a result.
    """


NOTHING_KEPT = "nothing is kept"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C in the middle of work of which something is kept.

    Args:
        kept: what is kept, and where, e.g. ``kept in runs/...: 2 of 4 arms``; several lines are
            possible.
    """

    def __init__(self, kept: str):
        super().__init__(kept)
        self.kept = kept


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'stale-data'?`` for the name of `known` that is most like `wrong`;
    empty without one.
    """
    others = [name for name in known if name != wrong]
    near = wrong and (
        difflib.get_close_matches(wrong, others, n=1) or difflib.get_close_matches(wrong.lower(), others, n=1)
    )
    return f"; did you mean {near[0]!r}?" if near else ""
