"""Rules of the wire: what each verb does to segments that match."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from twlab.loop import Loop
from twlab.results import packet_comments
from twlab.results.packet_comments import Mark
from twlab.segment import Segment
from twlab.wire import impairments
from twlab.wire.impairments import Release


class Armed(Protocol):
    """What a rule needs of the wire that it is armed on."""

    @property
    def loop(self) -> Loop:
        """The lab's loop."""

    def settle(self) -> None:
        """Handle what waits, and let go of the queue where no rule is armed."""

    def release(self, held: Held, *, without_timestamp: bool = False) -> None:
        """Send what `held` has taken or copied."""


class RuleKind(Enum):
    """The kind of a rule; its value is the mark on the packets it applies to."""

    WATCH = None
    HOLD = Mark.HELD
    COPY = Mark.COPIED
    DROP = Mark.DROPPED
    DELAY = Mark.DELAYING
    DUPLICATE = Mark.DUPLICATED
    REORDER = Mark.REORDERED
    IMPAIR = Mark.IMPAIRED


class Rule:
    """An impairment of matching segments, until its count is reached or it is stopped.

    Args:
        act: what it does.
        behind: of a rule that reorders: by how many segments.

    Attributes:
        kind: what it does.
        words: the same, in the third person: ``holds``.
        comment: what the capture says about each packet that it applied to; empty for a watch.
        segments: those that it applied to, in order; `at_s` is when each came to the wire.
    """

    def __init__(
        self,
        wire: Armed,
        kind: RuleKind,
        words: str,
        act: impairments.Selected | impairments.Reorder,
        behind: int = 0,
    ):
        self.kind = kind
        self.words = words
        self.segments = act.segments
        self.comment = packet_comments.text(kind.value, behind=behind) if kind.value else ""
        self._act = act
        self._wire = wire
        self._stopped = False

    def __call__(self, segment: Segment, now_s: float) -> list[Release]:
        """Return what the rule releases for `segment`, and when."""
        return self._act(segment, now_s) if self.armed else impairments.passing(segment, now_s)

    @property
    def armed(self) -> bool:
        """Whether it still acts."""
        return not self._stopped and not self._act.exhausted

    def wait(self, timeout_s: float = 10.0, count: int = 1) -> bool:
        """Let time pass until it has met `count` segments; return whether it has.

        Args:
            timeout_s: the longest wait.
        """
        return self._wire.loop.wait_until(lambda: len(self.segments) >= count, timeout_s)

    def stop(self) -> None:
        """End the rule. Held segments stay held; delayed ones still arrive."""
        if self.armed:
            self.disarm()
            self._wire.settle()

    def disarm(self) -> None:
        """End the rule, and leave it to the caller to settle the wire's queue."""
        self._stopped = True


class Held(Rule):
    """Segments held or copied, to be released when the scenario asks.

    Attributes:
        released_at_s: when each was released, in the order of release.
    """

    def __init__(self, wire: Armed, kind: RuleKind, words: str, act: impairments.Selected):
        super().__init__(wire, kind, words, act)
        self.released_at_s: list[float] = []

    def release(self, *, without_timestamp: bool = False) -> None:
        """Release all of them, see `twlab.wire.wire.Wire.release`."""
        self._wire.release(self, without_timestamp=without_timestamp)


def which(count: int | None) -> str:
    """Return the words for the next `count` segments (None: all)."""
    return "every segment" if count is None else "the next segment" if count == 1 else f"the next {count} segments"
