"""Workers side by side (`twlab.grading.driver`), each a process: whatever becomes of one costs the
task that it had, and no other.
"""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Any

from twlab.errors import CapabilityError
from twlab.grading.tasks import Task, key

Result = dict[str, Any]
_LOST = {"outcomes": {}, "report": {"problem": "the process that drove its lab kernel ended early"}}


def results(tasks: Iterable[Task], jobs: int) -> Iterator[tuple[str, Result]]:
    """The key and the result of each of `tasks`, in the order in which they get done, `jobs` at a
    time.

    However this ends, the workers and their lab kernels have ended.

    Raises:
        CapabilityError: this machine cannot run a lab kernel.
    """
    waiting = list(tasks)[::-1]
    working: dict[subprocess.Popen[bytes], Task] = {}
    with selectors.DefaultSelector() as selector:
        try:
            for _ in range(min(jobs, len(waiting))):
                _hire(selector, working, waiting.pop())
            while working:
                for ready, _ in selector.select():
                    worker: subprocess.Popen[bytes] = ready.data
                    task, result = working.pop(worker), _result(worker)
                    if result is None or not waiting:
                        _dismiss(selector, worker)
                        if waiting:
                            _hire(selector, working, waiting.pop())
                    else:
                        working[worker] = waiting.pop()
                        _hand_over(worker, working[worker])
                    if error := (result or {}).get("error"):
                        raise CapabilityError(error["message"], error["remedy"], error["slug"])
                    yield key(task), result or _LOST
        finally:
            for worker in list(working):
                _dismiss(selector, worker)


def _hire(selector: selectors.BaseSelector, working: dict[subprocess.Popen[bytes], Task], task: Task) -> None:
    # Unbuffered: what a buffer had taken in, select would not tell of. A session of its own: Ctrl-C
    # is for us, who end it.
    command = [sys.executable, "-P", "-m", "twlab.grading.driver"]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, start_new_session=True)
    selector.register(worker.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]
    working[worker] = task
    _hand_over(worker, task)


def _hand_over(worker: subprocess.Popen[bytes], task: Task) -> None:
    assert worker.stdin
    data = memoryview(json.dumps(task).encode() + b"\n")
    try:
        while data:
            data = data[worker.stdin.write(data) :]
    except BrokenPipeError:  # it is gone: its output ends, too, and says so
        pass


def _result(worker: subprocess.Popen[bytes]) -> Result | None:
    assert worker.stdout
    line = b""
    while not line.endswith(b"\n"):
        part = worker.stdout.read(1 << 16)
        if not part:
            return None
        line += part
    return json.loads(line)


def _dismiss(selector: selectors.BaseSelector, worker: subprocess.Popen[bytes]) -> None:
    """End a worker; it ends its guest and removes its folder."""
    assert worker.stdin and worker.stdout
    selector.unregister(worker.stdout)
    worker.stdin.close()
    worker.terminate()
    worker.stdout.close()
    worker.wait()
