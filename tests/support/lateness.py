"""How late this machine itself is: what a process sees of it that needs as much of the processor as
the one that is measured.
"""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from twlab.linux.syscalls import be_prompt, die_with_parent

_NAP_S, _WORK_S = 0.02, 0.001  # as a reaper: it looks every 20 ms, and needs a millisecond for it


@dataclass
class Machine:
    """`late_ms`: most by which a nap and the work after it took longer than both together; known
    when the block has ended.
    """

    late_ms: float = 0.0


@contextmanager
def watched() -> Iterator[Machine]:
    """Have a process nap and work by turns while the block runs, in which another is measured that
    does the same.
    """
    machine = Machine()
    receive, send = os.pipe()
    sleeper = os.fork()
    if sleeper == 0:
        _sleep(send)
    try:
        yield machine
    finally:
        os.kill(sleeper, signal.SIGTERM)
        (machine.late_ms,) = struct.unpack("=d", os.read(receive, 8))
        os.waitpid(sleeper, 0)
        os.close(receive)
        os.close(send)


def _sleep(send: int) -> None:
    going = True

    def stop(*_: object) -> None:
        nonlocal going
        going = False

    signal.signal(signal.SIGTERM, stop)
    die_with_parent()
    be_prompt()
    worst_s = 0.0
    while going:
        before_s = time.monotonic()
        time.sleep(_NAP_S)
        done_s = time.process_time() + _WORK_S
        while time.process_time() < done_s:
            pass
        worst_s = max(worst_s, time.monotonic() - before_s - _NAP_S - _WORK_S)
    os.write(send, struct.pack("=d", worst_s * 1000))
    os._exit(0)
