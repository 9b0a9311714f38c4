"""The queue and its workers, whose processes are played here: none is lost, none waits for ever."""

import asyncio
import sqlite3

import pytest
from visiting import summary

from twlab.errors import EngineError
from twlab.web import runs as module
from twlab.web.runs import Runs
from twlab.web.store import Asked, Store

ASKED = Asked("stale-data", ("treatment",))


class Worker:
    """A worker whose process is killed by `kill`, and answers at once."""

    made: "list[Worker]"

    def __init__(self, _):
        Worker.made.append(self)
        self.killed = asyncio.Event()
        self.carried_out = []

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        pass

    @property
    def alive(self):
        return not self.killed.is_set()

    async def warm(self):
        pass

    async def gone(self):
        await self.killed.wait()

    async def run(self, run):
        if not self.alive:
            raise EngineError("it is dead")
        self.carried_out.append(run.key)
        yield {"event": "verdict", "summary": summary()}
        yield {"event": "finished", "page": "<p>the run</p>", "captures": {}}


@pytest.fixture
def store(tmp_path):
    made = Store(tmp_path / "serve.sqlite")
    yield made
    made.close()


@pytest.fixture
def queue(store, tmp_path, monkeypatch):
    """A queue with one worker."""
    Worker.made = []
    monkeypatch.setattr(module, "_Worker", Worker)
    monkeypatch.setattr(module, "_AGAIN_S", 0.01)
    return Runs(store, tmp_path / "workers", workers=1)


async def over(queue, key):
    """Order a run, and wait for its end."""
    queue.ask(key, ASKED, "me")
    run = queue.find(key)
    async with asyncio.timeout(20):
        while not run.over:
            await run.changed(1)
    return run


def with_workers(queue, play):
    async def whole():
        queue.start()
        try:
            return await play()
        finally:
            await queue.stop()

    return asyncio.run(whole())


def test_a_store_that_cannot_be_written_costs_no_answer(queue, store, monkeypatch, capsys):
    """The answer is shown all the same; the next one is kept."""
    keep = store.keep

    def locked(*_):
        monkeypatch.setattr(store, "keep", keep)
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(store, "keep", locked)

    async def play():
        return [await over(queue, key * 20) for key in "ab"]

    states = [run.state for run in with_workers(queue, play)]
    assert states == ["done", "done"] and len(Worker.made) == 1
    assert queue.answer("a" * 20).page == "<p>the run</p>"
    assert store.answer("a" * 20) is None and store.answer("b" * 20).page == "<p>the run</p>"
    assert "a" * 20 in capsys.readouterr().err


def test_no_error_ends_the_work(queue, monkeypatch, capsys):
    """One of any kind costs its run; another worker carries out the next."""
    carry_out = Worker.run

    async def once(self, run):
        monkeypatch.setattr(Worker, "run", carry_out)
        raise KeyError("summary")
        yield

    monkeypatch.setattr(Worker, "run", once)

    async def play():
        return [await over(queue, key * 20) for key in "ab"]

    assert [run.state for run in with_workers(queue, play)] == ["failed", "done"]
    assert len(Worker.made) == 2 and "KeyError" in capsys.readouterr().err


def test_a_worker_that_dies_idle_costs_no_run(queue, capsys):
    """Another takes its place before there is one."""

    async def play():
        await over(queue, "a" * 20)
        Worker.made[0].killed.set()
        return await over(queue, "b" * 20)

    assert with_workers(queue, play).state == "done"
    assert [worker.carried_out for worker in Worker.made] == [["a" * 20], ["b" * 20]]
    assert "a worker ended" in capsys.readouterr().err


def test_who_follows_is_told_that_the_run_is_still_there(queue, monkeypatch):
    """While it waits, and while it runs without an event."""
    monkeypatch.setattr(module, "_QUIET_S", 0.01)

    async def play():
        queue.ask("a" * 20, ASKED, "me")
        told = queue.follow("a" * 20)
        seen = [await anext(told) for _ in range(3)]
        (await queue._next()).state = "running"
        seen += [await anext(told) for _ in range(2)]
        await told.aclose()
        return seen

    assert asyncio.run(play()) == [{"event": "queued", "position": 1, "length": 1}, None, None, None, None]
