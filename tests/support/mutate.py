"""Damages captures at random, by seed: turned bits, changed bytes, hostile numbers, parts taken out
and repeated.
"""

from __future__ import annotations

import random

NUMBERS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80")


def mutated(original: bytes, seed: int) -> bytes:
    """The capture `original` with 1, 3, 30 or 300 faults."""
    dice, data = random.Random(seed), bytearray(original)
    for _ in range(dice.choice((1, 3, 30, 300))):
        at = dice.randrange(len(data))
        what = dice.randrange(5)
        if what == 0:
            data[at] ^= 1 << dice.randrange(8)
        elif what == 1:
            data[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif what == 2:
            data[at : at + 4] = dice.choice(NUMBERS)
        elif what == 3:
            del data[at : at + dice.randrange(40)]
        else:
            data[at:at] = data[at : at + dice.randrange(80)]
    return bytes(data)
