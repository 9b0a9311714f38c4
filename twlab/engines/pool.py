"""Programs of ours side by side, each of which drives lab kernels: a JSON request in, a line of
JSON for each answer out.

Each is a process of its own, so that answers arrive as they are made, and whatever ends this
process ends the boots.
"""

from __future__ import annotations

import json
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from twlab.linux.syscalls import die_with_parent


@dataclass(frozen=True)
class Ended:
    """The last that is heard of a driver: its exit status."""

    status: int

    def __str__(self) -> str:
        return f"the process that drove its boot ended with status {self.status}"


def answers(module: str, requests: Iterable[Any], side_by_side: int) -> Iterator[tuple[int, Any]]:
    """Run `module` as a program for each of `requests`; yields the request's number with each of
    its answers, and with `Ended` at last.

    A request is asked for when there is room to carry it out. However this ends, the programs have
    ended, and their guests.
    """
    waiting = enumerate(requests)
    running: dict[subprocess.Popen[bytes], int] = {}
    with selectors.DefaultSelector() as selector:
        try:
            while True:
                while len(running) < side_by_side and (following := next(waiting, None)):
                    process = _start(module, following[1])
                    running[process] = following[0]
                    selector.register(process.stdout, selectors.EVENT_READ, process)  # type: ignore[arg-type]
                if not running:
                    return
                for key, _ in selector.select():
                    process = key.data
                    # Unbuffered, a line at a time: what a buffer has taken in, select would not
                    # tell of.
                    if line := process.stdout.readline():
                        yield running[process], json.loads(line)
                    else:
                        selector.unregister(process.stdout)
                        process.stdout.close()
                        status = process.wait()
                        yield running.pop(process), Ended(status)
        finally:
            for process in running:
                process.terminate()  # it ends its guest and removes its folder
                process.wait()
                assert process.stdout
                process.stdout.close()


def request() -> Any:
    """In the program: the request. From now on it ends with the process that started it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    die_with_parent(signal.SIGTERM)
    return json.load(sys.stdin)


def answer(value: Any) -> None:
    """In the program: one answer."""
    print(json.dumps(value), flush=True)


def _start(module: str, value: Any) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True
    )
    assert process.stdin
    process.stdin.write(json.dumps(value).encode())
    process.stdin.close()
    return process
