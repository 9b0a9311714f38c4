"""A pool of workers, each of which drives one lab kernel at a time.

A worker is a process of this machine, or one of a Dask cluster. A driver is a module with
``carry_out(task, answer)``. A task is a JSON value; the driver calls `answer` with a JSON value for
each result. A worker process is given one task after the other; if it dies, only its current task
fails.

This module is also the program that a worker process runs:

    python -m twlab.engines.pool DRIVER

Tasks are lines of JSON on standard input. On standard output each line is ``{"answer": value}`` or,
at the end of a task, ``{"ended": null}`` or ``{"ended": the error}``."""

from __future__ import annotations

import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Protocol

from twlab import paths
from twlab.errors import CapabilityError, EngineError, LabError
from twlab.linux.syscalls import die_with_parent

Answer = Callable[[Any], None]
GIVEN_AT_MOST = 4
"""Times that a task is given to a cluster that loses its workers under it.

Dask itself hands a task on from three dead workers, and gives it up at the fourth. It counts all
that were dealt to the worker that died, not only the task that it was at.
"""


@dataclass(frozen=True)
class Ended:
    """The end of a task.

    Attributes:
        error: why it failed, as `twlab.errors.LabError.as_dict`; None if it did not.
    """

    error: dict[str, str] | None = None


class Executor(Protocol):
    """What the pool asks of an executor: `submit` of `concurrent.futures`."""

    def submit(self, function: Any, /, *arguments: Any) -> Any:
        """Have `function` called somewhere; returns a future."""


def answers(driver: str, tasks: Sequence[Any], workers: int, scheduler: str = "") -> Iterator[tuple[int, Any]]:
    """Have `driver` carry out `tasks`; yields (task's number, answer), last `Ended`.

    However this ends, the worker processes and their guests have ended.

    Args:
        driver: dotted name of the module.
        tasks: are begun in this order.
        workers: processes side by side, on this machine.
        scheduler: ``tcp://HOST:PORT`` of a Dask cluster, which carries out the tasks instead. It
            decides how many at a time. Each of its machines needs twlab and a lab kernel.

    Raises:
        CapabilityError: there is no such cluster (``no-scheduler``).
    """
    if not scheduler:
        yield from _Processes(driver, tasks, workers).answers()
        return
    with dask_executor(scheduler) as executor:
        yield from answers_from(executor, driver, tasks)


def answers_from(executor: Executor, driver: str, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
    """Have `executor` carry out `tasks`; yields as `answers` does.

    The answers of a task come together, at its end. A task whose workers died is given again, up to
    `GIVEN_AT_MOST` times in all.
    """
    finished: SimpleQueue[tuple[int, Any]] = SimpleQueue()
    given: Counter[int] = Counter()

    def give(number: int) -> None:
        given[number] += 1
        future = executor.submit(carried_out, driver, tasks[number])
        future.add_done_callback(lambda future: finished.put((number, future)))

    for number in range(len(tasks)):
        give(number)
    left = len(tasks)
    while left:
        number, future = finished.get()
        try:
            found, ended = future.result()
        except Exception as error:  # the cluster's own: a worker that was lost, a package that is missing
            # By its name: only who has a cluster has the package.
            if type(error).__name__ == "KilledWorker" and given[number] < GIVEN_AT_MOST:
                give(number)
                continue
            found, ended = [], EngineError(str(error) or type(error).__name__, slug="worker-failed").as_dict()
        left -= 1
        for value in found:
            yield number, value
        yield number, Ended(ended)


def carried_out(driver: str, task: Any) -> tuple[list[Any], dict[str, str] | None]:
    """Carry out `task` in this process; returns the answers and the error, if any."""
    found: list[Any] = []
    return found, _carry_out(importlib.import_module(driver).carry_out, task, found.append)


@contextmanager
def dask_executor(scheduler: str) -> Iterator[Executor]:
    """Yield an executor of the Dask cluster at `scheduler`.

    Raises:
        CapabilityError: the package distributed is missing, or nothing answers there
            (``no-scheduler``).
    """
    try:
        from distributed import Client

        client = Client(scheduler, timeout="10s")
    except (ImportError, OSError, ValueError) as error:
        message = f"no Dask cluster at {scheduler}: {error}"
        raise CapabilityError(message, "pip install twlab[sweep]; start one: dask scheduler", "no-scheduler") from error
    with client:
        yield client.get_executor(pure=False)


@dataclass
class _Worker:
    """A worker process.

    Attributes:
        slot: its place among the workers, which its successor takes over.
        task: the number of the task that it has.
    """

    process: subprocess.Popen[bytes]
    slot: int
    task: int
    pending: bytes = field(default=b"")


class _Processes:
    """Worker processes on this machine."""

    def __init__(self, driver: str, tasks: Iterable[Any], workers: int):
        self._driver = driver
        self._waiting = list(enumerate(tasks))[::-1]
        self._count = min(workers, len(self._waiting))
        # A guest stays on one processor, and workers side by side get one each. The first is drawn,
        # so that pools side by side do not all begin with the same.
        allowed = sorted(os.sched_getaffinity(0))
        first = int.from_bytes(os.urandom(2), "big")
        self._processors = [allowed[(first + slot) % len(allowed)] for slot in range(self._count)]
        self._working: list[_Worker] = []
        self._selector = selectors.DefaultSelector()

    def answers(self) -> Iterator[tuple[int, Any]]:
        """See the function `answers`."""
        with self._selector:
            try:
                for slot in range(self._count):
                    self._start(slot)
                while self._working:
                    for key, _ in self._selector.select():
                        yield from self._news(key.data)
            finally:
                for worker in list(self._working):
                    self._end(worker)

    def _news(self, worker: _Worker) -> Iterator[tuple[int, Any]]:
        assert worker.process.stdout
        data = worker.process.stdout.read(1 << 16)
        if not data:
            status = self._end(worker)
            if self._waiting:
                self._start(worker.slot)
            error = EngineError(f"the worker process ended early, with status {status}", slug="worker-ended-early")
            yield worker.task, Ended(error.as_dict())
            return
        *lines, worker.pending = (worker.pending + data).split(b"\n")
        for line in lines:
            task, said = worker.task, json.loads(line)
            if "answer" in said:
                yield task, said["answer"]
                continue
            if self._waiting:
                self._hand_over(worker)
            else:
                self._end(worker)
            yield task, Ended(said["ended"])

    def _start(self, slot: int) -> None:
        # Unbuffered: select does not see what a buffer holds. -P: a file in the user's folder is
        # not to be taken for a module of ours. A session: Ctrl-C is for the caller, who ends them.
        others = [path for path in [os.environ.get("PYTHONPATH")] if path]
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "twlab.engines.pool", self._driver],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(paths.IMPORT_FROM), *others])},
        )
        if self._count > 1:
            with suppress(OSError):
                os.sched_setaffinity(process.pid, {self._processors[slot]})
        worker = _Worker(process, slot, 0)
        self._working.append(worker)
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)  # type: ignore[arg-type]
        self._hand_over(worker)

    def _hand_over(self, worker: _Worker) -> None:
        assert worker.process.stdin
        worker.task, task = self._waiting.pop()
        data = memoryview(json.dumps(task).encode() + b"\n")
        with suppress(BrokenPipeError):  # the process is gone: the end of its output says so, too
            while data:
                data = data[worker.process.stdin.write(data) :]

    def _end(self, worker: _Worker) -> int:
        """End a worker, which ends its guest and removes its folder.

        Returns its exit status.
        """
        process = worker.process
        assert process.stdin and process.stdout
        self._working.remove(worker)
        self._selector.unregister(process.stdout)
        process.stdin.close()
        process.terminate()
        process.stdout.close()
        return process.wait()


def _carry_out(carry_out: Callable[[Any, Answer], None], task: Any, answer: Answer) -> dict[str, str] | None:
    try:
        carry_out(task, answer)
    except LabError as error:
        return error.as_dict()
    return None


def main() -> None:
    """Carry out tasks until there are no more, or the process that started this ends."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    die_with_parent(signal.SIGTERM)
    carry_out = importlib.import_module(sys.argv[1]).carry_out
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # anything else that is printed

    def say(key: str, value: Any) -> None:
        print(json.dumps({key: value}), file=output, flush=True)

    for line in sys.stdin:
        say("ended", _carry_out(carry_out, json.loads(line), lambda value: say("answer", value)))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # Python's own end is not to be interrupted


if __name__ == "__main__":
    main()
