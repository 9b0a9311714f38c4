"""Follows the chain of a capture's records, at many places at once.

Each record says how long it is, so one leads to the next. A buffer is divided into lanes, and the
lanes are followed in step, all of them with each numpy operation. Where a lane begins is a guess.
It counts only if the chain from the front arrives exactly there. So the result is always that of
following record after record.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

import numpy as np

from twlab.observe.frames import number
from twlab.observe.packets import Array

_FEW = 256  # records that are followed one by one first: a short chain needs no lanes
_LANES = 256
_LEAST_LANE = 4096  # bytes
_ROUNDS = 4  # guesses for a lane
_STRIDE = 16  # steps between two looks at how many lanes are still under way
_LEFT = 16  # so few that the rest is followed one by one
_MOST_STEPS = 1024  # so many, too: a lane that begins at a wrong guess may lead anywhere


@dataclass(frozen=True, slots=True)
class Format:
    """How the records of a file follow each other.

    Attributes:
        order: byte order, as `struct` has it.
        field: where a record has its length, four bytes.
        more: bytes that this length leaves out.
        least, most: bytes of a record.
        sign: bytes that most records have at the same place, to guess by.
        sign_at: that place.
    """

    order: str
    field: int
    more: int
    least: int
    most: int
    sign: bytes
    sign_at: int


def follow(data: bytearray, start: int, end: int, form: Format) -> tuple[Array, int]:
    """Return where each whole record from `start` on begins, and the last ends.

    The chain stops at the first record that is not whole at `end`, or whose length is out of
    bounds.
    """
    first, at = _one_by_one(data, start, end, form, _FEW)
    if len(first) < _FEW or end - at < 2 * _LEAST_LANE:
        rest, at = _one_by_one(data, at, end, form, end) if len(first) == _FEW else ([], at)
        return np.array(first + rest, np.int64), at
    begins = _guess(data, at, end, form)
    places, whole, here = _in_step(data, begins, end, form)
    sure = np.zeros(len(begins), bool)
    between: list[int] = []
    lane_at = {begin: lane for lane, begin in enumerate(begins.tolist())}
    while True:
        if (lane := lane_at.pop(at, -1)) >= 0:
            sure[lane], at = True, int(here[lane])
            continue
        one, behind = _one_by_one(data, at, end, form, 1)
        if not one:
            break
        between += one
        at = behind
    whole &= sure
    found = np.concatenate([np.array(first + between, np.int64), places.T[whole.T]])
    return np.sort(found) if between else found, at


def _one_by_one(data: bytearray, at: int, end: int, form: Format, most: int) -> tuple[list[int], int]:
    """Follow at most `most` records."""
    found: list[int] = []
    unpack, field, more, least, largest = (
        Struct(f"{form.order}I").unpack_from,
        form.field,
        form.more,
        form.least,
        form.most,
    )
    while len(found) < most and at + field + 4 <= end:
        size = unpack(data, at + field)[0] + more
        if not least <= size <= largest or at + size > end:
            break
        found.append(at)
        at += size
    return found, at


def _guess(data: bytearray, at: int, end: int, form: Format) -> Array:
    """Guess where lanes begin; the first begins at `at`.

    A guess has the sign, and leads to a place that has it.
    """
    lanes = min(_LANES, (end - at) // _LEAST_LANE)
    edges = at + np.arange(1, lanes + 1) * ((end - at) // lanes)
    found, low, high = [np.array([at])], edges[:-1], edges[1:]
    sign, sizes, width = form.sign, f"{form.order}u4", len(form.sign)
    for _ in range(_ROUNDS):
        hits = np.array([data.find(sign, *between) for between in zip(low.tolist(), high.tolist(), strict=True)], int)
        hits, high = hits[hits >= 0], high[hits >= 0]
        begins = hits - form.sign_at
        size = number(data, begins + form.field, sizes).astype(np.int64) + form.more
        good = (size >= form.least) & (size <= form.most) & (hits + size + width <= end)
        next_sign = number(data, np.where(good, hits + size, at), f"V{width}")
        good &= next_sign == np.void(sign)
        found.append(begins[good])
        low, high = hits[~good] + 1, high[~good]
        if not len(low):
            break
    return np.sort(np.concatenate(found))


def _in_step(data: bytearray, begins: Array, end: int, form: Format) -> tuple[Array, Array, Array]:
    """Follow all lanes, each up to where the next one begins.

    Returns:
        The places of each lane: a row a step, a column a lane. Whether a record begins there. Where
        each lane has come to.
    """
    sizes = np.ndarray((len(data) - form.field - 3,), f"{form.order}u4", data, offset=form.field, strides=(1,))
    here, until = begins.copy(), np.append(begins[1:], end)
    places = [begins]
    going = len(begins)
    while going > _LEFT and len(places) < _MOST_STEPS:
        before = here.copy()
        for _ in range(_STRIDE):
            here = here + sizes[here]
            here += form.more
            np.minimum(here, end + 1, out=here)  # behind the end there are zero bytes, so lengths of zero
            places.append(here)
        going = int(np.count_nonzero((here < until) & (here > before)))
    all_places = np.array(places)
    size = np.diff(all_places, axis=0)
    whole = (all_places[:-1] < until) & (all_places[1:] <= end) & (size >= form.least) & (size <= form.most)
    np.logical_and.accumulate(whole, axis=0, out=whole)
    return all_places[:-1], whole, all_places[whole.sum(0), np.arange(len(begins))]
