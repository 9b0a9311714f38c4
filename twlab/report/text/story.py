"""One arm in words: its numbered story, and what was wrong."""

from __future__ import annotations

from collections.abc import Iterator

from twlab.results import transcript
from twlab.results.result import ArmResult
from twlab.results.transcript import Entry


def story(name: str, arm: ArmResult) -> Iterator[str]:
    """Yield the lines of arm `name`: what was done, when, and what was wrong.

    That is the predictions that did not hold, or the error that stopped the arm.
    """
    yield f"arm {name}"
    yield from (f"  {line}" for line in transcript.story(Entry(**entry) for entry in arm.transcript))
    yield from (f"  ✗ {mismatch}" for mismatch in arm.mismatches)
    if arm.error:
        yield f"  ? {arm.error['message']} [{arm.error['slug']}]"
        if arm.error.get("where"):
            yield f"    at {arm.error['where']}"
        if arm.error["remedy"]:
            yield f"    remedy: {arm.error['remedy']}"
