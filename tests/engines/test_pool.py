"""The pool of workers: answers in order, a death that costs one task, and an executor instead."""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from conftest import ROOT

from twlab.engines import pool
from twlab.engines.pool import Ended, answers, answers_from
from twlab.errors import CapabilityError

TASKS: list[dict[str, Any]] = [
    {"say": [1, 2]},
    {"say": [3], "die": True},
    {"say": []},
    {"say": [4], "refuse": True},
    {"say": ["x" * 300_000]},
    {"say": [None]},
]


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "support"))
    yield


def by_task(found: Iterable[tuple[int, Any]]) -> dict[int, list[Any]]:
    """The answers of each task; at the end the slug of its error, or None."""
    made: dict[int, list[Any]] = {}
    for number, answer in found:
        last = (answer.error or {}).get("slug") if isinstance(answer, Ended) else answer
        made.setdefault(number, []).append(last)
    return made


@pytest.mark.parametrize("workers", [1, 2, 20])
def test_each_task_has_its_answers_and_its_end(workers: int, capfd: pytest.CaptureFixture[str]) -> None:
    """A worker that dies costs its own task; one that refuses goes on with the next."""
    found = by_task(answers("echo_driver", TASKS, workers))
    assert found == {
        0: [1, 2, None],
        1: [3, "worker-ended-early"],
        2: [None],
        3: [4, "no-guest"],
        4: ["x" * 300_000, None],
        5: [None, None],
    }
    assert "this is no answer" not in capfd.readouterr().out


def test_a_worker_is_given_task_after_task() -> None:
    """One process for all tasks, if one works at a time."""
    found = by_task(answers("echo_driver", [{"say": [n], "pid": True} for n in range(4)], 1))
    assert len({answered[0][1] for answered in found.values()}) == 1


def test_workers_end_when_the_reader_goes_away() -> None:
    """Closing the generator ends the workers."""
    going = answers("echo_driver", [{"say": [n], "pid": True} for n in range(9)], 2)
    _, (_, pid) = next(going)
    going.close()  # type: ignore[attr-defined]
    assert not Path(f"/proc/{pid}").exists()


def test_an_executor_carries_out_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `submit` of any executor: the same answers, but for the task that would kill its
    process.
    """
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "support"))
    tasks = [task for task in TASKS if "die" not in task]
    with ThreadPoolExecutor(2) as executor:
        assert by_task(answers_from(executor, "echo_driver", tasks)) == by_task(answers("echo_driver", tasks, 2))


def test_an_executor_that_fails_costs_one_task() -> None:
    """What its future raises is the error of that task."""
    with ThreadPoolExecutor(1) as executor:
        found = by_task(answers_from(executor, "no_such_driver", [{}]))
    assert found == {0: ["worker-failed"]}


class KilledWorker(Exception):  # noqa: N818
    """As Dask's scheduler names it, when it gives a task up."""


@pytest.mark.parametrize("deaths", [1, 3, 4])
def test_a_task_whose_workers_die_is_given_again(monkeypatch: pytest.MonkeyPatch, deaths: int) -> None:
    """Three times, and no other task for it; its answers come once."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "support"))
    dying = iter(range(deaths))

    class Cluster(ThreadPoolExecutor):
        def submit(self, function: Any, /, *arguments: Any) -> Any:
            def carried_out() -> Any:
                if arguments[1]["say"] == ["mine"] and next(dying, None) is not None:
                    raise KilledWorker("tcp://127.0.0.1:1")
                return function(*arguments)

            return super().submit(carried_out)

    with Cluster(1) as executor:
        found = by_task(answers_from(executor, "echo_driver", [{"say": ["mine"]}, {"say": ["yours"]}]))
    assert found == {0: ["mine", None] if deaths < 4 else ["worker-failed"], 1: ["yours", None]}
    assert next(dying, None) is None


def test_no_cluster_is_said_at_once() -> None:
    """An address where nothing listens."""
    pytest.importorskip("distributed")
    with pytest.raises(CapabilityError, match="no-scheduler"):
        list(answers("echo_driver", [{}], 1, "tcp://127.0.0.1:9"))


def test_a_cluster_without_workers_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask keeps a task until a worker comes; whose workers all died may wait for nothing."""
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(pool, "_LOOK_S", 0.1)
    monkeypatch.setattr(pool, "_PATIENCE_S", 0.5)
    with (
        distributed.LocalCluster(n_workers=0, host="127.0.0.1", dashboard_address=None) as cluster,
        pytest.raises(CapabilityError, match="has had no worker") as refused,
    ):
        list(answers("echo_driver", [{}], 1, cluster.scheduler_address))
    assert refused.value.slug == "no-workers"
    assert "goes on where it was" in refused.value.remedy


def test_a_scheduler_that_is_gone_is_said() -> None:
    """Dask's client cancels what it asked for when its scheduler does not come back."""

    class Cancelled(ThreadPoolExecutor):
        def submit(self, function: Any, /, *arguments: Any) -> Any:
            future: Future[Any] = Future()
            future.cancel()
            return future

    with pytest.raises(CapabilityError, match="no-scheduler"):
        list(answers_from(Cancelled(1), "echo_driver", [{}]))


def test_workers_may_come_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as one is there again in time, the answers come."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "support"))
    monkeypatch.setattr(pool, "_LOOK_S", 0.05)
    monkeypatch.setattr(pool, "_PATIENCE_S", 10.0)
    begin, seen = Event(), iter([0, 0, 1, 0, 0])

    def workers() -> int:
        there = next(seen, None)
        if there is None:
            begin.set()
        return there or 0

    def late(*arguments: Any) -> Any:
        begin.wait(30)
        return pool.carried_out(*arguments)

    class Late(ThreadPoolExecutor):
        def submit(self, function: Any, /, *arguments: Any) -> Any:
            return super().submit(late, *arguments)

    with Late(1) as executor:
        assert by_task(answers_from(executor, "echo_driver", [{"say": ["late"]}], workers)) == {0: ["late", None]}
