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
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from twlab import paths
from twlab.errors import CapabilityError, EngineError, LabError
from twlab.linux.syscalls import die_with_parent
from twlab.loop import monotonic_s

Answer = Callable[[Any], None]
GIVEN_AT_MOST = 4
"""Times that a task is given to a cluster that loses its workers under it.

Dask itself hands a task on from three dead workers, and gives it up at the fourth. It counts all
that were dealt to the worker that died, not only the task that it was at.
"""
_LOOK_S = 5.0  # between two looks at the workers of a cluster from which nothing comes
_PATIENCE_S = 60.0  # with a cluster that has none
_GO_ON = "once the cluster is there again, the same command goes on where it was"


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
        CapabilityError: there is no such cluster (``no-scheduler``), or it has had no worker for a
            minute (``no-workers``).
    """
    if not scheduler:
        yield from _Processes(driver, tasks, workers).answers()
        return
    with dask_client(scheduler) as client:
        yield from answers_from(client.get_executor(pure=False), driver, tasks, partial(_workers_of, client))


def answers_from(
    executor: Executor, driver: str, tasks: Sequence[Any], workers: Callable[[], int] = lambda: 1
) -> Iterator[tuple[int, Any]]:
    """Have `executor` carry out `tasks`; yields as `answers` does.

    The answers of a task come together, at its end. A task whose workers died is given again, up to
    `GIVEN_AT_MOST` times in all.

    Args:
        workers: tells how many the executor has now.

    Raises:
        CapabilityError: it has had none for a minute (``no-workers``), or has given up all tasks
            (``no-scheduler``).
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
        number, future = _next(finished, workers)
        if future.cancelled():  # so does a client end what it asked for when its scheduler does not come back
            raise CapabilityError("the Dask cluster's scheduler is gone", _GO_ON, "no-scheduler")
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


def _next(finished: SimpleQueue[tuple[int, Any]], workers: Callable[[], int]) -> tuple[int, Any]:
    """Return the next task that has ended, as long as there are workers.

    A cluster does not fail a task that no worker is there to carry out: it waits for one, and
    those that died on a busy machine may not have come back.
    """
    seen_s = monotonic_s()
    while True:
        with suppress(Empty):
            return finished.get(timeout=_LOOK_S)
        if workers():
            seen_s = monotonic_s()
        elif monotonic_s() - seen_s >= _PATIENCE_S:
            message = f"the Dask cluster has had no worker for {_PATIENCE_S:.0f} s"
            raise CapabilityError(message, f"dask worker SCHEDULER; {_GO_ON}", "no-workers")


def carried_out(driver: str, task: Any) -> tuple[list[Any], dict[str, str] | None]:
    """Carry out `task` in this process; returns the answers and the error, if any."""
    found: list[Any] = []
    return found, _carry_out(importlib.import_module(driver).carry_out, task, found.append)


def dask_client(scheduler: str) -> Any:
    """Return a client of the Dask cluster at `scheduler`, a context manager.

    Raises:
        CapabilityError: the package distributed is missing, or nothing answers there
            (``no-scheduler``).
    """
    try:
        from distributed import Client

        return Client(scheduler, timeout="10s")
    except (ImportError, OSError, ValueError) as error:
        message = f"no Dask cluster at {scheduler}: {error}"
        raise CapabilityError(message, "pip install twlab[sweep]; start one: dask scheduler", "no-scheduler") from error


def _workers_of(client: Any) -> int:
    try:
        return len(client.nthreads())
    except OSError:  # the scheduler does not answer
        return 0


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
