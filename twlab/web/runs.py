"""The queue of runs, and the worker processes that carry them out.

Everything here belongs to the server's event loop. A worker that dies costs the run that it had.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twlab.errors import EngineError
from twlab.web.store import Answer, Asked, Store, lasts
from twlab.web.worker import LOST, Worker

DRIVER = "twlab.web.driver"
_MOST_EVENTS = 2000  # of one run, that a browser is shown
_REMEMBERED = 32  # runs that are over, and answers, kept in memory
_AGAIN_S = 5.0  # between two tries to start a worker that does not come up
_QUIET_S = 15.0  # after which a browser is told that its run is still there


class QueueFull(Exception):  # noqa: N818
    """The queue takes no more: of all visitors (`whose` is ""), or of this one.

    Args:
        length: how many wait.
    """

    def __init__(self, length: int, whose: str = ""):
        super().__init__(length, whose)
        self.length = length
        self.whose = whose


@dataclass(eq=False)
class Run:
    """A run that waits, is under way, or is over.

    Attributes:
        key, asked: the order.
        visitor: who asked first.
        state: ``waiting``, ``running``, ``done`` or ``failed``.
        events: what a browser shows of it, in order.
        answer: once it is done.
        error: slug, message, remedy, if it failed.
    """

    key: str
    asked: Asked
    visitor: str
    state: str = "waiting"
    events: list[dict[str, Any]] = field(default_factory=list)
    answer: Answer | None = None
    error: dict[str, str] | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def over(self) -> bool:
        return self.state in ("done", "failed")

    def tell(self) -> None:
        """Wake those who follow it."""
        self._changed.set()
        self._changed = asyncio.Event()

    def add(self, event: dict[str, Any]) -> None:
        """Add an event for those who follow it."""
        if len(self.events) < _MOST_EVENTS:
            self.events.append(event)
        self.tell()

    async def changed(self, within_s: float) -> bool:
        """Wait for the next event or state; return whether it came in time."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._changed.wait(), within_s)
        return False


class Runs:
    """The queue and the workers.

    Args:
        store: of answers.
        folder: each worker gets a folder of its own in it.
        workers: how many, and so how many guests are kept warm.
        most_waiting: runs in the queue.
        most_of_one: of these, of one visitor.
    """

    def __init__(self, store: Store, folder: Path, *, workers: int = 2, most_waiting: int = 200, most_of_one: int = 3):
        self._store = store
        self._folder = folder
        self._workers = workers
        self._most = most_waiting
        self._most_of_one = most_of_one
        self._queue: deque[Run] = deque()
        self._queued = asyncio.Event()
        self._open: dict[str, Run] = {}
        self._over: OrderedDict[str, Run] = OrderedDict()
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._tasks: list[asyncio.Task[None]] = []
        self.warm = 0
        self.made = 0

    @property
    def waiting(self) -> int:
        """How many runs wait."""
        return len(self._queue)

    def position(self, run: Run) -> int:
        """Return the run's place in the queue, from 1; 0 if it does not wait."""
        return self._queue.index(run) + 1 if run in self._queue else 0

    def start(self) -> None:
        """Start the workers."""
        self._tasks = [asyncio.create_task(self._work(number)) for number in range(self._workers)]

    async def stop(self) -> None:
        """End the workers, and with them their guests."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for run in list(self._open.values()):
            self._end(run, error=LOST)

    def answer(self, key: str) -> Answer | None:
        """Return the answer of that key, from memory or the store."""
        found = self._answers.get(key) or self._store.answer(key)
        if found:
            _remember(self._answers, key, found)
        return found

    def find(self, key: str) -> Run | None:
        """Return the run of that key which waits, is under way, or failed of late."""
        return self._open.get(key) or self._over.get(key)

    def ask(self, key: str, asked: Asked, visitor: str) -> None:
        """Put an order into the queue, unless its answer is known or it is there.

        Raises:
            QueueFull: there is no room.
        """
        if key in self._open or self.answer(key):
            return
        if len(self._queue) >= self._most:
            raise QueueFull(len(self._queue))
        if sum(run.visitor == visitor for run in self._open.values()) >= self._most_of_one:
            raise QueueFull(len(self._queue), visitor)
        self._over.pop(key, None)
        self._open[key] = run = Run(key, asked, visitor)
        self._queue.append(run)
        self._queued.set()

    async def follow(self, key: str) -> AsyncIterator[dict[str, Any] | None]:
        """Yield the events of a run, its place in the queue, and at last ``over``.

        None is yielded where nothing has happened for a while.
        """
        run = self.find(key)
        told, place = 0, 0
        while run and not run.over:
            if (at := self.position(run)) != place and at:
                place = at
                yield {"event": "queued", "position": at, "length": len(self._queue)}
            ready, told = run.events[told:], len(run.events)
            for event in ready:
                yield event
            if not ready and not run.over and not await run.changed(_QUIET_S):
                yield None
        for event in run.events[told:] if run else ():
            yield event
        yield {"event": "over"}

    async def _work(self, number: int) -> None:
        while True:
            try:
                async with _Worker(self._folder / f"worker-{number}") as worker:
                    while True:
                        await worker.warm()
                        self.warm += 1
                        try:
                            run = await self._next_for(worker)
                        finally:
                            self.warm -= 1
                        await self._carry_out(worker, run)
            except Exception as error:  # of any kind: without this task, runs would wait for ever
                print(f"twlab: a worker ended: {type(error).__name__}: {error}", file=sys.stderr)
                await asyncio.sleep(_AGAIN_S)

    async def _next_for(self, worker: _Worker) -> Run:
        """Return the next run; raises EngineError: `worker` has ended before there was one."""
        taken, gone = asyncio.ensure_future(self._next()), asyncio.ensure_future(worker.gone())
        try:
            await asyncio.wait((taken, gone), return_when=asyncio.FIRST_COMPLETED)
            if not gone.done():
                return taken.result()
            if taken.done():
                self._queue.appendleft(taken.result())
        finally:
            taken.cancel()
            gone.cancel()
        raise EngineError("its process ended while it waited for a run", LOST["remedy"], LOST["slug"])

    async def _next(self) -> Run:
        while not self._queue:
            self._queued.clear()
            await self._queued.wait()
        run = self._queue.popleft()
        for other in self._queue:
            other.tell()
        return run

    async def _carry_out(self, worker: _Worker, run: Run) -> None:
        run.state = "running"
        run.tell()
        summary: dict[str, Any] = {}
        try:
            async for event in worker.run(run):
                if event["event"] != "finished":
                    summary = event.get("summary", summary)
                    run.add(event)
                    continue
                run.answer = Answer(summary, event["page"])
                if lasts(summary):
                    _remember(self._answers, run.key, run.answer)
                    self._keep(run, run.answer, event["captures"])
            self._end(run)
        except EngineError as error:
            self._end(run, error=error.as_dict())
            if not worker.alive:
                raise
        except BaseException:
            self._end(run, error=LOST)
            raise

    def _keep(self, run: Run, answer: Answer, captures: dict[str, str]) -> None:
        """Keep an answer. It is shown all the same where the store cannot take it."""
        try:
            self._store.keep(run.key, answer.summary, answer.page, captures)
        except sqlite3.Error as error:
            print(f"twlab: the answer of run {run.key} is not kept: {error}", file=sys.stderr)

    def _end(self, run: Run, error: dict[str, str] | None = None) -> None:
        run.error = error
        run.state = "done" if run.answer else "failed"
        self._open.pop(run.key, None)
        _remember(self._over, run.key, run)
        self.made += 1
        run.tell()


class _Worker(Worker):
    """A worker that keeps a guest warm, while it is entered."""

    def __init__(self, folder: Path):
        super().__init__(DRIVER)
        self._folder = str(folder)

    async def warm(self) -> None:
        """Have it make a guest ready."""
        async for _ in self.answers({"kind": "warm", "folder": self._folder}):
            pass

    async def run(self, run: Run) -> AsyncIterator[dict[str, Any]]:
        """Have it carry out `run`; yields its events."""
        asked = run.asked
        task = {"kind": "run", "folder": self._folder, "key": run.key, "seed": asked.seed}
        task |= {"scenario": asked.scenario, "arms": list(asked.arms), "sets": list(asked.sets)}
        async for event in self.answers(task):
            yield event


def _remember(kept: OrderedDict[str, Any], key: str, value: Any) -> None:
    kept[key] = value
    kept.move_to_end(key)
    while len(kept) > _REMEMBERED:
        kept.popitem(last=False)
