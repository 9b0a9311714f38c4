"""Errors, sorted by who must act.

    LabError                  base: a message, a remedy, a slug to look up, an exit status
    ├── UsageError       2    the request is wrong: a wrong name, a bad value, a broken file
    ├── CapabilityError  3    the machine lacks a program, a right, a kernel feature, or disk space
    ├── ScenarioError    1    the scenario is wrong: an impossible step, a check that checks nothing
    └── EngineError      1    the engine failed: a guest that panicked, hung, or was killed

A verdict is never an error: a refuted scenario is a result. Every error reaches the user as one
message with its remedy, never as a traceback; the slug in brackets is the heading under which
`docs/reference/messages.md` explains it.
"""

from __future__ import annotations

from collections.abc import Iterable

_LONGEST = 1500  # letters of a message: a value from a damaged file may be of any size


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
        self.message = message if len(message) <= _LONGEST else f"{message[:_LONGEST]} ..."
        self.remedy = remedy
        self.slug = slug

    def __str__(self) -> str:
        text = f"{self.message} [{self.slug}]"
        return f"{text}\n  remedy: {self.remedy}" if self.remedy else text

    def as_dict(self) -> dict[str, str]:
        """Return slug, message, remedy and kind, as a result keeps them.

        The kind is the name of the class.
        """
        return {"slug": self.slug, "message": self.message, "remedy": self.remedy, "kind": type(self).__name__}

    def __reduce__(self) -> tuple[type[LabError], tuple[str, str, str]]:
        return type(self), (self.message, self.remedy, self.slug)


class UsageError(LabError):
    """The request is wrong: an unknown name, a value out of range, an unreadable file."""

    exit_status = 2


class CapabilityError(LabError):
    """The machine lacks a program, a right, a kernel feature, or space."""

    exit_status = 3


class ScenarioError(LabError):
    """The scenario is wrong: a step is impossible, or nothing is observed."""


class EngineError(LabError):
    """The engine failed: the lab's processes died, hung, or sent no valid result."""


NOTHING_KEPT = "nothing is kept"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during work whose results so far are kept.

    Args:
        kept: what is kept, and where, e.g. ``kept in runs/...: 2 of 4 arms``; several lines are
            possible.
    """

    def __init__(self, kept: str):
        super().__init__(kept)
        self.kept = kept


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return the question whether the closest name of `known` was meant.

    For example ``; did you mean 'stale-data'?``; empty if no name is close to `wrong`.
    """
    import difflib  # with what it needs it takes 10 ms, and few commands go wrong

    others = [name for name in known if name != wrong]
    for text in (wrong, wrong.lower()):
        if near := text and difflib.get_close_matches(text, others, n=1):
            return f"; did you mean {near[0]!r}?"
    return ""
