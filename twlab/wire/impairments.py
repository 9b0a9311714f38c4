"""What can befall a segment between two machines, as functions of time. Pure.

An impairment is any function of (segment, now_s) that returns the releases: which segments are to
be put onto the link, and when. A segment that passes untouched is released now. Times are seconds
on one clock and never lie before `now_s`.

    impairment(segment, now_s) -> [Release(at_s, segment), ...]

`chain` joins several. Nothing here sends anything: the wire does, and so the rules can be tested
without one.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from twlab.segment import Segment


class Release(NamedTuple):
    """Put `segment` onto the link at `at_s`."""

    at_s: float
    segment: Segment


Impairment = Callable[[Segment, float], list[Release]]


def passing(segment: Segment, now_s: float) -> list[Release]:
    """The segment passes: no impairment."""
    return [Release(now_s, segment)]


def taking(segment: Segment, now_s: float) -> list[Release]:
    """The segment is taken off the link."""
    return []


class Drop:
    """Segments are lost, each with `probability` (default: all of them)."""

    def __init__(self, probability: float = 1.0, random: Random | None = None):
        self.probability = probability
        self._random = random or Random(0)

    def __call__(self, segment: Segment, now_s: float) -> list[Release]:
        lost = self.probability >= 1 or self._random.random() < self.probability
        return taking(segment, now_s) if lost else passing(segment, now_s)


class Delay:
    """Segments arrive `delay_s` later, and up to `jitter_s` more; with jitter they may overtake
    each other.
    """

    def __init__(self, delay_s: float, jitter_s: float = 0.0, random: Random | None = None):
        self.delay_s = delay_s
        self.jitter_s = jitter_s
        self._random = random or Random(0)

    def __call__(self, segment: Segment, now_s: float) -> list[Release]:
        extra_s = self._random.uniform(0, self.jitter_s) if self.jitter_s else 0.0
        return [Release(now_s + self.delay_s + extra_s, segment)]


class Duplicate:
    """Segments pass, and arrive once more `after_s` later."""

    def __init__(self, after_s: float):
        self.after_s = after_s

    def __call__(self, segment: Segment, now_s: float) -> list[Release]:
        return [Release(now_s, segment), Release(now_s + self.after_s, segment)]


class Selected:
    """`impairment` befalls the first `count` segments that match (None: all that do); the rest
    pass.

    Attributes:
        segments: those it has befallen, in order. With `taking` they are held here, with `passing`
            these are copies.
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
        """It has befallen as many segments as it should."""
        return self._count is not None and len(self.segments) >= self._count


class Reorder:
    """A matching segment falls behind: it arrives right after `behind` later segments of its flow.
    One at a time; the others pass.

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
        """As many as it should have fallen behind, and have arrived."""
        return self._late is None and self._count is not None and len(self.segments) >= self._count


def chain(*impairments: Impairment) -> Impairment:
    """One impairment after the other: each sees what the one before it releases, at the time at
    which it does.
    """

    def joined(segment: Segment, now_s: float) -> list[Release]:
        releases = [Release(now_s, segment)]
        for impairment in impairments:
            releases = [later for release in releases for later in impairment(release.segment, release.at_s)]
        return releases

    return joined
