"""Holds a batch of captured frames in a buffer.

For each frame: where it begins, how long it is, when and where it was captured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from twlab.observe.packets import Array

LARGEST = 1 << 20  # bytes of a frame; a larger one is damage


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface where packets were captured.

    Attributes:
        link: the link type, tcpdump.org's LINKTYPE number.
        name: empty if the file has none.
    """

    link: int
    name: str = ""


@dataclass(slots=True)
class Frames:
    """Frames of one link type, in the order of the file.

    Attributes:
        data: the buffer; 256 bytes more than the last frame needs can be read.
        start: where each frame begins in `data`.
        kept: captured bytes of each frame.
        length: bytes of each frame on the wire.
        t: nanoseconds since 1970.
        n: number of each frame in the file, counted from 0.
        place: number of each frame's interface in the file.
        link: their link type.
        base: position of ``data[0]`` in the decompressed file.
    """

    data: bytearray
    start: Array
    kept: Array
    length: Array
    t: Array
    n: Array
    place: Array
    link: int
    base: int

    def __len__(self) -> int:
        return len(self.start)


def number(data: bytearray, at: Array, kind: str) -> Array:
    """Read integers of dtype `kind` at the positions `at`, aligned or not."""
    size = np.dtype(kind).itemsize
    return np.ndarray((len(data) - size + 1,), kind, data, strides=(1,))[at]


def rows(data: bytearray, at: Array, kind: np.dtype) -> Array:
    """Copy the records of the structured dtype `kind` at the positions `at`."""
    size = kind.itemsize
    return np.ndarray((len(data) - size + 1,), f"V{size}", data, strides=(1,))[at].view(kind)
