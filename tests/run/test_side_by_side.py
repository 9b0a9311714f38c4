"""Many arms in two boots: how they are dealt, that it changes no result, and what becomes of an
engine's failure.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from twlab.catalogue import find_scenario, load_scenarios
from twlab.engines import choose, pool
from twlab.errors import CapabilityError, EngineError
from twlab.run import runner, side_by_side
from twlab.run.runner import Order

NAMES = ("blind-reset", "fin-timeout-myth", "rearm", "reordered-close", "overflow", "late-fin")


def test_arms_are_dealt_by_the_order_alone() -> None:
    """Each once, those of a scenario together and in order, in two parts of about equal cost."""
    arms = [name for name, scenario in load_scenarios().items() for _ in scenario.arms]
    parts = side_by_side.deal(arms)
    assert sorted(number for part in parts for number in part) == list(range(len(arms)))
    assert all(part == sorted(part) for part in parts)
    assert not {arms[number] for number in parts[0]} & {arms[number] for number in parts[1]}
    assert parts == side_by_side.deal(arms)
    costs = [sum(side_by_side._COST.get(arms[number], 1.0) for number in part) for part in parts]
    assert min(costs) > 0.9 * max(costs)


def test_what_is_said_to_be_costly_exists() -> None:
    """A scenario that was renamed would count as any other."""
    assert set(side_by_side._COST) <= set(load_scenarios())


def test_one_scenario_has_one_part() -> None:
    """There is nothing to deal."""
    assert side_by_side.deal(["a", "a"]) == [[0, 1]]


REQUEST: dict[str, Any] = {"jobs": [{"name": name} for name in "abcd"], "seed": 1}


def answers(monkeypatch: pytest.MonkeyPatch, told: list[tuple[int, Any]]) -> list[dict[str, Any]]:
    """What comes of it when the drivers of the parts [0, 2] and [1, 3] answer so."""
    monkeypatch.setattr(pool, "answers", lambda module, requests, boots: iter(told))
    events: list[dict[str, Any]] = []
    side_by_side.run(REQUEST, "an.agent", [[0, 2], [1, 3]], Path("/tmp"), 1.0, events.append)
    return events


def test_events_bear_the_numbers_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """And there is one end."""
    given = [(0, {"event": "start", "job": 0}), (1, {"event": "arm", "job": 1, "result": {}})]
    seen = answers(monkeypatch, [*given, (0, pool.Ended()), (1, pool.Ended())])
    assert [(event["event"], event.get("job")) for event in seen[:2]] == [("start", 0), ("arm", 3)]
    assert seen[-1] == {"event": "end"}
    assert sum(event["event"] == "end" for event in seen) == 1


def test_a_driver_that_is_killed_costs_its_own_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were not done have its error as their result."""
    error = EngineError("the worker ended", slug="worker-ended-early").as_dict()
    done = [(1, {"event": "arm", "job": 0, "result": {}}), (0, {"event": "arm", "job": 0, "result": {}})]
    more = [(0, {"event": "arm", "job": 1, "result": {}}), (0, pool.Ended())]
    seen = answers(monkeypatch, [*done, (1, pool.Ended(error)), *more])
    assert [event["job"] for event in seen if event["event"] == "arm"] == [1, 0, 3, 2]
    assert [event["job"] for event in seen if event.get("result") == {"error": error}] == [3]


def test_what_this_machine_cannot_do_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    """As from an engine in this process."""
    error = CapabilityError("no room", "make some", "no-space")
    with pytest.raises(CapabilityError) as caught:
        answers(monkeypatch, [(0, pool.Ended(error.as_dict()))])
    assert (caught.value.slug, caught.value.remedy) == ("no-space", "make some")


def test_jobs_after_one_that_the_engine_did_not_survive_get_a_fresh_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    """That one has the error as its result, and nothing runs twice."""
    batches: list[list[str]] = []

    class Guest:
        def __init__(self, agent: str) -> None:
            assert agent == "an.agent"

        def run(self, request: dict[str, Any], folder: Path, on_event: Any, limit_s: float) -> None:
            names = [job["name"] for job in request["jobs"]]
            batches.append(names)
            for number, name in enumerate(names):
                if name == "b":
                    raise EngineError("it panicked", slug="guest-panicked")
                on_event({"event": "arm", "job": number, "result": {}})
            on_event({"event": "end"})

    monkeypatch.setattr(side_by_side, "Guest", Guest)
    events: list[dict[str, Any]] = []
    task = {"agent": "an.agent", "request": REQUEST, "folder": "/tmp", "limit_s": 1.0}
    side_by_side.carry_out(task, events.append)
    assert batches == [["a", "b", "c", "d"], ["c", "d"]]
    assert [(event["job"], event["result"].get("error", {}).get("slug")) for event in events] == [
        (0, None),
        (1, "guest-panicked"),
        (2, None),
        (3, None),
    ]


@pytest.mark.guest
def test_one_boot_at_a_time_or_two_give_the_same_results(tmp_path: Path) -> None:
    """To the byte: every capture, and every result but for its times and folder."""
    kept = []
    for boots in (1, 2):
        out = tmp_path / str(boots)
        scenarios = [(name, find_scenario(name)) for name in NAMES]
        finished = runner.run(Order(scenarios, out=out, boots=boots), choose("guest", agent=runner.AGENT))
        assert sum(len(run.result.arms) for run in finished) >= side_by_side.FEWEST_ARMS
        captures = {
            f"{run.result.scenario}/{file.name}": file.read_bytes()
            for run in finished
            for file in run.folder.glob("*.pcapng")
        }
        arms = {
            (run.result.scenario, name): (arm.observed, arm.counters, arm.transcript)
            for run in finished
            for name, arm in run.result.arms.items()
        }
        assert all(arm.ok for run in finished for arm in run.result.arms.values())
        assert not list(out.glob("console*"))
        kept.append((captures, arms))
    assert kept[0] == kept[1]
    assert len(kept[0][0]) == len(kept[0][1])


@pytest.mark.guest
def test_two_runs_into_one_folder_both_return(tmp_path: Path) -> None:
    """Each boot has a log of its own, and removes no other's; an old one is left as it is."""
    (tmp_path / "console.log").write_text("of an older run")

    def started(names: tuple[str, str]) -> list[runner.Finished]:
        scenarios = [(name, find_scenario(name)) for name in names]
        order = Order(scenarios, arms=["control"], out=tmp_path)
        return runner.run(order, choose("guest", agent=runner.AGENT))

    with ThreadPoolExecutor() as threads:
        both = list(threads.map(started, [("stale-segment", "fin-timeout-myth"), ("late-ack", "stale-segment")]))
    assert all(run.result.arms["control"].ok for finished in both for run in finished)
    assert [file.name for file in tmp_path.glob("console*")] == ["console.log"]
    assert (tmp_path / "console.log").read_text() == "of an older run"
