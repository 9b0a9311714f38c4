"""Opens captures, each as one stream of bytes.

Regular files, standard input, gzip, zstd and lz4.
"""

from __future__ import annotations

import gzip
import importlib
import io
import sys
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from twlab.errors import CapabilityError, UsageError

STANDARD_INPUT = "-"
_GZIP, _ZSTD, _LZ4 = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18"
_COMPRESSED_BLOCK = 1 << 18
_SLACK = 256  # zero bytes behind the data, so that a vectorised read past the last header stays inside the buffer


class DamagedError(Exception):
    """A fault in a capture; the data read before it is good."""


class Stream:
    """The decompressed bytes of one capture, in a buffer that is reused.

    Attributes:
        name: for messages: the path, or ``standard input``.
        data: the buffer. Bytes `start` up to `end` are valid; 256 bytes behind `end` can be read
            without harm.
        offset: position of ``data[0]`` in the decompressed stream.
        seekable: the file can be read a second time, at any offset.

    Raises:
        UsageError: on construction, if the file cannot be opened (``no-capture-file``).
        CapabilityError: on construction, if a package that decompresses it is missing
            (``no-decompressor``).
    """

    def __init__(self, path: str, size: int = 4 << 20):
        self.name = "standard input" if path == STANDARD_INPUT else path
        self.data = bytearray(size + _SLACK)
        self._view = memoryview(self.data)
        self.start = self.end = self.offset = 0
        try:
            self._file: BinaryIO = sys.stdin.buffer if path == STANDARD_INPUT else Path(path).open("rb", buffering=0)  # noqa: SIM115
            head = _exactly(self._file, 4)
        except OSError as fault:
            remedy = "name a capture, a folder that twlab run has made, or - for standard input"
            raise UsageError(f"there is no capture at {path}: {fault.strerror}", remedy, "no-capture-file") from fault
        whole = _Replayed(head, self._file)
        inflated = _decompressed(whole, head)
        self.seekable = inflated is None and path != STANDARD_INPUT
        self._source = inflated or whole

    @property
    def capacity(self) -> int:
        """The most bytes that the buffer holds."""
        return len(self.data) - _SLACK

    def fill(self) -> bool:
        """Move the unread bytes to the front of the buffer, and read on.

        Returns:
            False at the end of the file.

        Raises:
            DamagedError: the file cannot be read or decompressed any further.
        """
        left = self.end - self.start
        if self.start and left:
            self.data[:left] = self.data[self.start : self.end]
        self.offset += self.start
        self.start, self.end = 0, left
        try:
            got = self._source.readinto(self._view[left : self.capacity])
        except (OSError, EOFError, zlib.error, ValueError, RuntimeError) as fault:
            raise DamagedError(f"it cannot be read further: {fault}") from fault
        except Exception as fault:
            if type(fault).__module__.split(".")[0] not in ("zstandard", "lz4"):
                raise
            raise DamagedError(f"it cannot be decompressed further: {fault}") from fault
        self.end += got
        self.data[self.end : self.end + _SLACK] = bytes(_SLACK)
        return got > 0

    def skip(self, size: int) -> None:
        """Skip the next `size` bytes, which may be more than the buffer holds.

        Raises:
            DamagedError: the file ends before.
        """
        while size > self.end - self.start:
            size -= self.end - self.start
            self.start = self.end
            if not self.fill():
                raise DamagedError("it ends in the middle of a block")
        self.start += size

    def require(self, size: int) -> bool:
        """Tell whether `size` bytes are in the buffer from `start` on.

        Reads on if they are not.
        """
        while self.end - self.start < size:
            if not self.fill():
                return False
        return True

    def close(self) -> None:
        """Close the file; standard input stays open."""
        self._view.release()
        if self._file is not sys.stdin.buffer:
            self._file.close()


class _Replayed(io.RawIOBase):
    """A file whose first bytes have been read already."""

    def __init__(self, head: bytes, file: BinaryIO):
        self._head, self._file = head, file

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        if self._head:
            size = min(len(self._head), len(into))
            into[:size], self._head = self._head[:size], self._head[size:]
            return size
        return self._file.readinto(into) or 0  # type: ignore[attr-defined]


def _exactly(file: BinaryIO, size: int) -> bytes:
    found = b""
    while len(found) < size and (more := file.read(size - len(found))):
        found += more
    return found


def _decompressed(file: _Replayed, head: bytes) -> Any:
    """Open a file of the decompressed bytes.

    None if `head`, the first four bytes, shows no known compression.
    """
    if head[:2] == _GZIP:
        return gzip.GzipFile(fileobj=io.BufferedReader(file, _COMPRESSED_BLOCK))
    if head == _ZSTD:
        return _library("zstandard", "zstd").ZstdDecompressor().stream_reader(file, read_across_frames=True)
    if head == _LZ4:
        return _library("lz4.frame", "lz4").LZ4FrameFile(io.BufferedReader(file, _COMPRESSED_BLOCK))
    return None


def _library(name: str, form: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as fault:
        package = name.partition(".")[0]
        remedy = f"pip install {package}, or decompress the file first"
        raise CapabilityError(
            f"reading {form} needs the Python package {package}", remedy, "no-decompressor"
        ) from fault
