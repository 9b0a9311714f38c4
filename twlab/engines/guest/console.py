"""Takes over a terminal: its modes outside, its control in the guest.

Outside, the terminal's modes are restored at the end. In the guest, a process gets its console.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import termios
from collections.abc import Iterator, Sequence

CONSOLE = "/dev/tty1"  # in the guest: the console that is connected to the user's terminal


@contextlib.contextmanager
def restored(interactive: bool) -> Iterator[None]:
    """Restore the terminal's modes, which the lab kernel changes, when the block ends."""
    before = termios.tcgetattr(0) if interactive else None
    try:
        yield
    finally:
        if before:
            termios.tcsetattr(0, termios.TCSADRAIN, before)


def take_over(console: str, size: Sequence[int] | None) -> int:
    """Make `console` the controlling terminal; return its file descriptor.

    The process becomes the leader of a new session, so Ctrl-C reaches it as a signal.

    Args:
        console: path of the device, in the guest.
        size: rows and columns; None: they stay as they are.
    """
    os.setsid()
    fd = os.open(console, os.O_RDWR)
    fcntl.ioctl(fd, termios.TIOCSCTTY, 0)
    if size:
        termios.tcsetwinsize(fd, (size[0], size[1]))
    return fd
