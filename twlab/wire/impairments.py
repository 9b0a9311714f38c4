"""Impairments of segments between two machines, as functions of time. Pure.

An impairment is any function of (segment, now_s) that returns the releases: which segments are to
be put onto the link, and when. A segment that passes untouched is released now. Times are seconds
on one clock and never lie before `now_s`.

    impairment(segment, now_s) -> [Release(at_s, segment), ...]

`chain` joins several. Nothing here sends a packet, the wire does; so the rules are tested without
one.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from twlab.segment import Segment


class Release(NamedTuple):
    """A segment to be put onto the link at `at_s`."""

    at_s: float
    segment: Segment


Impairment = Callable[[Segment, float], list[Release]]


def passing(segment: Segment, now_s: float) -> list[Release]:
    """Let the segment pass: no impairment."""
    return [Release(now_s, segment)]


def taking(segment: Segment, now_s: float) -> list[Release]:
    """Take the segment off the link."""
    return []


class Drop:
    """Loses segments, each with `probability` (default: all of them)."""

    def __init__(self, probability: float = 1.0, random: Random | None = None):
        self.probability = probability
        self._random = random or Random(0)

    def __call__(self, segment: Segment, now_s: float) -> list[Release]:
        lost = self.probability >= 1 or self._random.random() < self.probability
        return taking(segment, now_s) if lost else passing(segment, now_s)


class Delay:
    """Delays segments by `delay_s`, and by up to `jitter_s` more.

    With jitter they may overtake each other.
    """

    def __init__(self, delay_s: float, jitter_s: float = 0.0, random: Random | None = None):
        self.delay_s = delay_s
        self.jitter_s = jitter_s
        self._random = random or Random(0)

    def __call__(self, segment: Segment, now_s: float) -> list[Release]:
        extra_s = self._random.uniform(0, self.jitter_s) if self.jitter_s else 0.0
        return [Release(now_s + self.delay_s + extra_s, segment)]


class Duplicate:
    """Lets segments pass, and lets each arrive once more `after_s` later."""

    def __init__(self, after_s: float):
        self.after_s = after_s

    def __call__(self, segment: Segment, now_s: float) -> list[Release]:
        return [Release(now_s, segment), Release(now_s + self.after_s, segment)]


class Selected:
    """Applies an impairment to the first segments that match; the others pass.

    Args:
        count: to how many; None: to all that match.

    Attributes:
        segments: those that it applied to, in order. With `taking` they are held here, with
            `passing` these are copies.
    """

    def __init__(self, predicate: Callable[[Segment], bool], impairment: Impairment, count: int | None = None):
        self.segments: list[Segment] = []
        self._predicate = predicate
        self._impairment = impairment
        self._count = count

    def __call__(self, segment: Segment, now_s: float) -> list[Release]:
        if self.exhausted or not self._predicate(segment):
            return passing(segment, now_s)
        self.segments.append(segment)
        return self._impairment(segment, now_s)

    @property
    def exhausted(self) -> bool:
        """Whether it has applied to `count` segments."""
        return self._count is not None and len(self.segments) >= self._count


class Reorder:
    """Lets a matching segment arrive after `behind` later segments of its flow.

    One segment at a time; meanwhile the others pass.

    Attributes:
        segments: those that have fallen behind so far, at most `count` (None: no limit).
    """

    def __init__(self, predicate: Callable[[Segment], bool], behind: int = 1, count: int | None = 1):
        self.segments: list[Segment] = []
        self._predicate = predicate
        self._behind = behind
        self._count = count
        self._late: Segment | None = None
        self._left = 0

    def __call__(self, segment: Segment, now_s: float) -> list[Release]:
        if self._late is None:
            if self.exhausted or not self._predicate(segment):
                return passing(segment, now_s)
            self._late, self._left = segment, self._behind
            self.segments.append(segment)
            return []
        if segment.flow != self._late.flow:
            return passing(segment, now_s)
        self._left -= 1
        if self._left:
            return passing(segment, now_s)
        late, self._late = self._late, None
        return [Release(now_s, segment), Release(now_s, late)]

    @property
    def exhausted(self) -> bool:
        """Whether `count` segments have fallen behind and have arrived."""
        return self._late is None and self._count is not None and len(self.segments) >= self._count


def chain(*impairments: Impairment) -> Impairment:
    """Join impairments: each sees what the one before it releases, at that time."""

    def joined(segment: Segment, now_s: float) -> list[Release]:
        releases = [Release(now_s, segment)]
        for impairment in impairments:
            releases = [later for release in releases for later in impairment(release.segment, release.at_s)]
        return releases

    return joined
