"""Makes and reads the comments on packets in a capture: what the lab did to each.

A comment is one phrase, or several joined by ``"; "``. Recorded captures hold these phrases: add
new ones, and never change one. A phrase that is not known, such as a note added in Wireshark, is
passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache

_JOINT = "; "
_STRIPPED = ", its timestamp stripped"


class Mark(Enum):
    """One thing that the lab did to a packet.

    The value is the phrase, with figures in braces.
    The first seven stand on a packet as the wire received it, the others on one that the lab sent.
    Times are in seconds.
    """

    HELD = "held by the wire"
    COPIED = "copied by the wire"
    DROPPED = "dropped by the wire"
    DELAYING = "taken by the wire, to be delayed"
    DUPLICATED = "duplicated by the wire"
    REORDERED = "put behind {behind:.0f} later by the wire"
    IMPAIRED = "impaired by the wire"
    RELEASED = "held {late_s:.3f} s by the wire"
    COPY_RELEASED = "copy of the packet from t={came_s:.3f} s, released at t={at_s:.3f} s"
    COPY_LATE = "copy of the packet from t={came_s:.3f} s, {late_s:.3f} s later"
    DELAYED = "delayed {late_s:.3f} s by the wire"
    INJECTED = "injected by the lab"
    SENT = "sent by the lab's own endpoint"


COPIES = frozenset({Mark.COPY_RELEASED, Mark.COPY_LATE})
# Packets that did not come in at the node which sent them.
MADE_BY_WIRE = COPIES | {Mark.INJECTED}
# Packets that no kernel's TCP has sent.
MADE_BY_LAB = MADE_BY_WIRE | {Mark.SENT}


@dataclass(frozen=True, slots=True)
class Comment:
    """One phrase of a comment.

    Attributes:
        mark: what was done.
        figures: the numbers in the phrase, by name: ``late_s``, ``came_s``, ``at_s``, ``behind``.
        stripped: the timestamp option was removed on release.
    """

    mark: Mark
    figures: dict[str, float] = field(default_factory=dict)
    stripped: bool = False


def text(mark: Mark, *, stripped: bool = False, **figures: float) -> str:
    """Return the phrase for `mark`, as it stands in the file.

    Args:
        stripped: whether the timestamp option was removed.
        figures: the numbers that the phrase of `mark` names; times in seconds, shown to 1 ms.

    Raises:
        KeyError: a figure is missing.
    """
    return mark.value.format(**figures) + (_STRIPPED if stripped else "")


def joined(phrases: Iterable[str]) -> str:
    """Return one comment for several phrases, in their order; empty ones are left out."""
    return _JOINT.join(phrase for phrase in phrases if phrase)


@lru_cache(maxsize=4096)
def parse(comment: str) -> tuple[Comment, ...]:
    """Return the phrases of a comment, in order, without those of other programs."""
    return tuple(known for phrase in comment.split(_JOINT) if (known := _phrase(phrase)))


def marks(comment: str) -> frozenset[Mark]:
    """Return what was done to the packet with this comment."""
    return frozenset(phrase.mark for phrase in parse(comment)) if comment else frozenset()


def first(comment: str) -> str:
    """Return the first phrase of a comment."""
    return comment.split(_JOINT, 1)[0]


def with_original(comment: str, original: str) -> str:
    """Return the comment on a copy, with its original named, e.g. ``#7``."""
    return comment.replace("copy of the packet", f"copy of {original}")


def _phrase(phrase: str) -> Comment | None:
    plain = phrase.removesuffix(_STRIPPED)
    for mark, pattern in _PATTERNS.items():
        if found := pattern.fullmatch(plain):
            return Comment(mark, {name: float(value) for name, value in found.groupdict().items()}, plain != phrase)
    return None


def _pattern(phrase: str) -> re.Pattern[str]:
    """Return what matches a phrase with any figures."""
    parts = re.split(r"\{(\w+):[^}]*\}", phrase)
    figure = r"-?\d+(?:\.\d+)?"
    return re.compile("".join(f"(?P<{part}>{figure})" if at % 2 else re.escape(part) for at, part in enumerate(parts)))


_PATTERNS = {mark: _pattern(mark.value) for mark in Mark}
