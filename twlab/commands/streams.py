"""Makes standard output and standard error safe to write results to.

They may lead to a terminal, a file, a pipe, or nowhere. A reader that goes away (``| head``) is no
error: the rest is not printed, and the exit status is the command's. Output that cannot be written
(a full disk, a closed descriptor) is one message. A letter that the encoding lacks is replaced.
Standard error takes progress and error messages. Where it cannot be written, no command fails.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress
from typing import Any

from twlab.errors import CapabilityError

_REMEDY = "send it to a file with room, to a program, or to /dev/null"
_SIMPLER = {
    "✓": "+",
    "✗": "x",
    "—": "-",
    "→": "->",
    "…": "...",
    "“": '"',
    "”": '"',
    "\u2019": "'",
    "\u00d7": "x",
    "≥": ">=",
    "≤": "<=",
}


_closed: set[int] = set()


def has_input() -> bool:
    """Return whether this program was started with a standard input."""
    return 0 not in _closed


def no_output(error: OSError) -> CapabilityError:
    """Return the error for a standard output that cannot be written (``no-output``)."""
    return CapabilityError(f"standard output cannot be written: {error.strerror}", _REMEDY, "no-output")


def prepare() -> None:
    """Put streams of this module in place of `sys.stdout` and `sys.stderr`.

    Descriptors 0 to 2 that are closed are opened, so that no file of a run gets their number. Until
    then nothing may load ctypes: libffi 3.8 opens its own file then, and keeps it open.

    Raises:
        CapabilityError: standard output is closed (``no-output``): nothing is begun whose result
            cannot be said.
    """
    _closed.update(fd for fd in range(3) if not _is_open(fd))
    for fd in sorted(_closed):
        os.dup2(os.open(os.devnull, os.O_RDWR), fd)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    codecs.register_error("twlab-simpler", _simpler)
    sys.stderr = _stream(_Quiet(2, "w", closefd=False), sys.stderr)
    sys.stdout = _stream(_Output(1, "w", closefd=False), sys.stdout)
    if 1 in _closed:
        raise CapabilityError("standard output is closed", _REMEDY, "no-output")


def finish() -> None:
    """Write out what is still in standard output's buffer.

    Raises:
        CapabilityError: it cannot be written (``no-output``).
    """
    sys.stdout.flush()


def discard() -> None:
    """Discard what standard output and standard error have not taken.

    So the interpreter's own flush at its end finds nothing.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and isinstance(raw := getattr(stream.buffer, "raw", None), _Output):
            raw.gone = True
            with suppress(OSError, CapabilityError):
                stream.flush()


class _Output(io.FileIO):
    """Standard output.

    Attributes:
        gone: no more is written; `write` reports all that it is given as written.
    """

    gone = False

    def write(self, data: Any, /) -> int:
        if self.gone:
            return memoryview(data).nbytes
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            self.gone = True
            return memoryview(data).nbytes
        except OSError as error:
            raise no_output(error) from error


class _Quiet(_Output):
    """Standard error. It may fail silently: there is no place left to report it."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except CapabilityError:
            return memoryview(data).nbytes


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _stream(raw: _Output, former: Any) -> io.TextIOWrapper:
    encoding = getattr(former, "encoding", None) or "utf-8"
    lines = raw.isatty() or isinstance(raw, _Quiet)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding=encoding, errors="twlab-simpler", line_buffering=lines)


def _simpler(error: UnicodeError) -> tuple[str, int]:
    """Replace letters that an encoding lacks.

    A mark becomes ASCII that tells it apart, any other letter a question mark.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_SIMPLER.get(letter, "?") for letter in lacking), error.end
