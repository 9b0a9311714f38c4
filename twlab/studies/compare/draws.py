"""Decides whether columns differ in a fact by chance: a permutation test. Pure.

Both columns have observed the fact with the same seeds, which are fresh ones: the run that raised
the question does not count. If both draw from one distribution, each way to deal the values to the
two columns is as likely as the other. So the values are dealt anew many times, and it is counted
how often the columns come to lie as far apart as they were observed:

- numbers by the largest distance of their distribution functions (Kolmogorov and Smirnov), which
  sees another middle as well as another spread;
- other values by the distance of their shares. Values that never come twice, as drawn ports do, are
  as far apart however they are dealt: they decide nothing.

The test is looked at after each number of seeds in `LOOKS`, and at the end:

change      a distance like this comes by chance at most once in a thousand times (`CHANGE`); for
            values that do not overlap at all, that takes 8 seeds
chance      it comes by chance in half of all cases (`CHANCE`), or all seeds are used up
undecided   all seeds are used up, and they were too few for any change to be seen: up to 6

So of a thousand facts that do not differ, a few are called a change; a change smaller than what the
seeds can show is called chance.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import StrEnum
from math import comb
from typing import Any

CHANGE, CHANCE = 0.001, 0.5
LOOKS = (4, 8, 12)
_DEALS = 9_999


class Decision(StrEnum):
    """What a difference is. A value, never an exception."""

    CHANGE = "change"
    CHANCE = "chance"
    UNDECIDED = "undecided"


def looks(seeds: int) -> list[int]:
    """Return the numbers of seeds after which the test is looked at, last `seeds`."""
    return [number for number in LOOKS if number < seeds] + [seeds] * (seeds > 0)


def decide(first: Sequence[Any], second: Sequence[Any], last: bool) -> Decision:
    """Decide by the values of two columns.

    Args:
        first, second: JSON values, as many of one as of the other.
        last: there will be no more values.
    """
    likely = probability(first, second)
    if likely <= CHANGE:
        return Decision.CHANGE
    enough = 2 / comb(2 * len(first), len(first)) <= CHANGE  # if they did not overlap, it would be seen
    return Decision.CHANCE if likely >= CHANCE or (last and enough) else Decision.UNDECIDED


def probability(first: Sequence[Any], second: Sequence[Any]) -> float:
    """Return how likely values of one distribution lie as far apart by chance."""
    import numpy as np

    pooled = [*first, *second]
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in pooled)
    keys = pooled if numbers else [json.dumps(value, sort_keys=True) for value in pooled]
    kinds = sorted(set(keys))
    column = np.array([kinds.index(key) for key in keys])
    # A row for each value, a column for each kind: at most that (numbers), or that (others).
    places = np.arange(len(kinds))
    marks = (column[:, None] <= places if numbers else column[:, None] == places).astype(np.int64)
    sign = np.repeat(np.array([[1, -1]], dtype=np.int64), [len(first), len(second)], axis=1)

    def distances(signs: Any) -> Any:
        shares = np.abs(signs @ marks)
        return shares.max(axis=1) if numbers else shares.sum(axis=1)

    dealt = np.random.default_rng(1).permuted(np.repeat(sign, _DEALS, axis=0), axis=1)
    as_far = int((distances(dealt) >= distances(sign)[0]).sum())
    return (as_far + 1) / (_DEALS + 1)
