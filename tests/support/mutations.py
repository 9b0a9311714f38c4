"""Damaged and hostile variants of valid inputs, the same for the same seed.

`of_bytes`, `of_capture`, `of_text` and `of_json` change a few places of what they are given. They know nothing of
the reader that will get it.
"""

from __future__ import annotations

import json
import random
from copy import deepcopy
from typing import Any

NUMBERS = (-1, 0, 1 << 31, 1 << 63, 1 << 70, -(1 << 63), 1e308, float("inf"), float("nan"), 0.5)
VALUES: tuple[Any, ...] = (*NUMBERS, None, True, "", "x" * 5000, "\u0660", "%s", "../../x", "\x1b[31m", [], {}, [[]])
WORDS = ("\x00", "9" * 300, "-", "=", ",", ":", "[", "{", '"', "\u0660", "\xff", "%n", "\t", "\n", "1e999", "nan", "..")
_FIELDS = (b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80")
_DEEP = 40_000  # levels: more than any parser recurses


def of_bytes(data: bytes, dice: random.Random) -> bytes:
    """Flip, overwrite, remove, double, move or cut off some bytes."""
    out = bytearray(data)
    for _ in range(dice.randint(1, 6)):
        at, to = sorted(dice.randrange(len(out) + 1) for _ in range(2))
        to = min(to, at + dice.choice((1, 2, 4, 8, 200)))
        how = dice.randrange(7)
        if how == 0 and at < len(out):
            out[at] ^= 1 << dice.randrange(8)
        elif how == 1:
            width = dice.choice((1, 2, 4, 8))
            out[at : at + width] = dice.choice((bytes(width), b"\xff" * width, dice.randbytes(width)))
        elif how == 2:
            del out[at:to]
        elif how == 3:
            out[at:at] = out[at:to]
        elif how == 4:
            out[at:at] = dice.randbytes(dice.randrange(16))
        elif how == 5 and dice.random() < 0.3:
            del out[at:]
    return bytes(out)


def of_capture(capture: bytes, dice: random.Random) -> bytes:
    """Damage a capture in 1, 3, 30 or 300 places, and leave most of its length, so that records follow
    the damage.
    """
    data = bytearray(capture)
    for _ in range(dice.choice((1, 3, 30, 300))):
        at = dice.randrange(len(data))
        what = dice.randrange(5)
        if what == 0:
            data[at] ^= 1 << dice.randrange(8)
        elif what == 1:
            data[at] = dice.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif what == 2:
            data[at : at + 4] = dice.choice(_FIELDS)
        elif what == 3:
            del data[at : at + dice.randrange(40)]
        else:
            data[at:at] = data[at : at + dice.randrange(80)]
    return bytes(data)


def of_text(text: str, dice: random.Random) -> str:
    """Change some words, lines and letters; move, double, remove or cut them off."""
    for _ in range(dice.randint(1, 5)):
        lines = text.splitlines(keepends=True)
        how = dice.randrange(7)
        at = dice.randrange(len(text) + 1)
        if how == 0:
            text = text[:at] + dice.choice(WORDS) + text[at + dice.randrange(4) :]
        elif how == 1:
            text = text[:at] + text[at + dice.randrange(30) :]
        elif how == 2 and lines:
            lines.insert(dice.randrange(len(lines) + 1), dice.choice(lines))
            text = "".join(lines)
        elif how == 3 and lines:
            del lines[dice.randrange(len(lines))]
            text = "".join(lines)
        elif how == 4 and len(lines) > 1:
            dice.shuffle(lines)
            text = "".join(lines)
        elif how == 5:
            words = text.split(" ")
            words[dice.randrange(len(words))] = str(dice.choice(NUMBERS))
            text = " ".join(words)
        elif dice.random() < 0.3:
            text = text[:at]
    return text


def of_json(text: str, dice: random.Random) -> str:
    """Replace, remove, rename or double values in a JSON text, which stays JSON; or damage the text."""
    if dice.random() < 0.2:
        return of_text(text, dice)
    if dice.random() < 0.02:
        return dice.choice(("[" * _DEEP, '{"a":' * _DEEP, "null", "[]", "{}", '"x"', "1"))
    value = json.loads(text)
    for _ in range(dice.randint(1, 4)):
        holder: dict[Any, Any] | list[Any] = value
        while True:
            keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
            if not keys:
                break
            key = dice.choice(keys)
            if isinstance(holder[key], dict | list) and holder[key] and dice.random() < 0.8:
                holder = holder[key]
                continue
            how = dice.randrange(4)
            if how < 2:
                holder[key] = deepcopy(dice.choice(VALUES))
            elif how == 2:
                del holder[key]
            elif isinstance(holder, dict):
                holder[f"{key}{dice.choice(WORDS)}"] = holder.pop(key)
            else:
                holder.append(deepcopy(holder[key]))
            break
    return json.dumps(value)
