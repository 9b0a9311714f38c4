"""Linux's clock of initial sequence numbers. Pure.

A connection starts at hash(four-tuple, boot secret) + the real-time clock in units of 64 ns
(net/core/secure_seq.c; the form is RFC 6528's). For one four-tuple the hash is always the same, so
the starts of two of its connections differ by the time between them: 15,625,000 a second, once
around the 32-bit space in 274.88 s. A sender that is faster than that overtakes the clock, and a
later connection starts inside what the earlier one has sent.
"""

from __future__ import annotations

from twlab.segment import advance, distance

TICK_NS = 64
PER_SECOND = 1_000_000_000 // TICK_NS


def reaches_at_s(start: int, start_at_s: float, seq: int) -> float:
    """Return when a connection of the same four-tuple would start at `seq`.

    Args:
        start: initial sequence number of a connection of that four-tuple.
        start_at_s: when it began, on any clock in seconds.
        seq: a sequence number after `start`.

    Returns:
        Seconds on the same clock.
    """
    return start_at_s + distance(start, seq) % 2**32 / PER_SECOND


def starts_at(start: int, after_s: float) -> int:
    """Return where the next connection of the same four-tuple starts.

    Args:
        start: initial sequence number of the earlier connection.
        after_s: seconds from its beginning to the next one's.
    """
    return advance(start, round(after_s * PER_SECOND))


def chance_in_window(window: int) -> float:
    """Return the probability that a stray sequence number falls in a window.

    It is unrelated to the numbers of the connection; `window` is in bytes.
    """
    return window / 2**32
