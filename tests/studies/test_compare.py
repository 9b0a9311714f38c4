"""Kernels side by side: what differs is shown, and is a change or chance by a rule that can fail."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from twlab import Arm, Observation, Settings, scenario
from twlab.engines import pool
from twlab.errors import UsageError
from twlab.report.html import comparison as comparison_page
from twlab.report.html import page
from twlab.studies.compare import columns as columns_module
from twlab.studies.compare import draws
from twlab.studies.compare import driver as compare_driver
from twlab.studies.compare.columns import Column, columns, worlds
from twlab.studies.compare.differences import Difference, Step, differences, summary, verdicts
from twlab.studies.compare.draws import Decision, decide, looks, probability
from twlab.studies.compare.measure import Comparison

OLD, NEW = Column("6.12", "guest", "/old", "6.12.1"), Column("7.3", "guest", "/new", "7.3.4")


@scenario(
    topology="pair",
    control=Arm(Settings(), expect=Observation(fixed=1)),
    treatment={
        "changes": Arm(Settings(), expect=Observation(fixed=1)),
        "draws": Arm(Settings(), expect=Observation(fixed=1)),
    },
)
def claim(lab: Any) -> Observation:
    """A claim that nothing runs."""
    return Observation(fixed=1)


class Kernels:
    """A pool in which every arm has its outcome by a rule; it counts what it ran.

    Attributes:
        ends_after: how many tasks it carries out before Ctrl-C.
    """

    def __init__(self, ends_after: int = 1 << 30) -> None:
        self.ran: list[tuple[str, int]] = []
        self.ends_after = ends_after

    def answers(self, driver: str, tasks: Sequence[Any], workers: int) -> Iterator[tuple[int, Any]]:
        for number, task in enumerate(tasks):
            if len(self.ran) == self.ends_after:
                raise KeyboardInterrupt
            self.ran.append((task["name"], task["seed"]))
            if "folder" in task:
                for arm in claim.arms:
                    yield number, {**self._outcome(task, arm), "scenario": "claim", "arm": arm}
                yield number, {"folders": {"claim": "made"}}
            else:
                for _, arm, _ in task["arms"]:
                    yield number, self._outcome(task, arm)
            yield number, pool.Ended()

    @staticmethod
    def _outcome(task: dict[str, Any], arm: str) -> dict[str, Any]:
        newer = task["name"] == "7.3"
        drawn = random.Random(f"{task['name']} {task['seed']}").randrange(10)
        observed = {"fixed": 1, "count": 3 if newer and arm == "changes" else 1}
        observed |= {"drawn": drawn} if arm == "draws" else {}
        return {"observed": observed, "ok": not newer or arm != "changes", "error": None, "kernel": f"{task['name']}.0"}


def comparison(folder: Path, *, seeds: int = 20) -> Comparison:
    return Comparison(folder, [("claim", claim)], [OLD, NEW], seed=1, seeds=seeds, command="twlab compare claim")


def measured(folder: Path, kernels: Kernels, monkeypatch: pytest.MonkeyPatch, seeds: int = 20) -> dict[str, Any]:
    monkeypatch.setattr(pool, "answers", kernels.answers)
    return comparison(folder, seeds=seeds).measure(jobs=2, on_arm=lambda column, arm: None)


@pytest.mark.parametrize(
    ("first", "second", "after_4", "after_8"),
    [
        ([1] * 8, [3] * 8, Decision.UNDECIDED, Decision.CHANGE),
        ([True] * 8, [False] * 8, Decision.UNDECIDED, Decision.CHANGE),
        (["yes"] * 8, [None] * 8, Decision.UNDECIDED, Decision.CHANGE),
        (list(range(10, 18)), list(range(20, 28)), Decision.UNDECIDED, Decision.CHANGE),
        ([1, 5, 2, 6, 3, 7, 4, 8], [2, 6, 1, 5, 4, 8, 3, 7], Decision.CHANCE, Decision.CHANCE),
        ([f"port {n}" for n in range(8)], [f"port {n}" for n in range(8, 16)], Decision.CHANCE, Decision.CHANCE),
    ],
)
def test_values_that_do_not_overlap_are_a_change_after_eight_seeds(
    first: list[Any], second: list[Any], after_4: Decision, after_8: Decision
) -> None:
    """Four are too few. Values that never come twice decide nothing: they are chance."""
    assert decide(first[:4], second[:4], last=False) is after_4
    assert decide(first, second, last=False) is after_8


def test_the_rule_can_fail_both_ways() -> None:
    """Of facts with one distribution a few in a thousand are called a change, looked at as often as
    the command does; a small shift is called chance.
    """
    rng = random.Random(7)

    def decided(shift: float) -> Decision:
        first, second = [[rng.gauss(mean, 1) for _ in range(20)] for mean in (0, shift)]
        for look in looks(20):
            found = decide(first[:look], second[:look], last=look == 20)
            if found is not Decision.UNDECIDED:
                return found
        raise AssertionError("the last look decides")

    assert sum(decided(0) is Decision.CHANGE for _ in range(300)) <= 4
    assert sum(decided(5) is Decision.CHANGE for _ in range(30)) == 30
    assert sum(decided(0.1) is Decision.CHANGE for _ in range(30)) <= 2


def test_a_probability_is_that_of_the_exact_test() -> None:
    """Of numbers that do not overlap: two of all ways to deal them."""
    assert probability([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx(2 / 70, abs=0.006)
    assert probability([1, 1], [1, 1]) == 1
    assert probability(list(range(6)), list(range(6, 12))) > draws.CHANGE


def test_too_few_seeds_decide_nothing() -> None:
    """With six a change cannot be seen, so what does not overlap is not called chance."""
    assert decide([1] * 6, [3] * 6, last=True) is Decision.UNDECIDED
    assert decide([1] * 7, [3] * 7, last=True) is Decision.CHANGE
    assert decide([1, 2, 3], [2, 3, 1], last=True) is Decision.CHANCE


def test_looks_end_with_the_seeds_that_are_allowed() -> None:
    """None without repetitions: then every difference stays undecided."""
    assert (looks(20), looks(8), looks(2), looks(0)) == ([4, 8, 12, 20], [4, 8], [2], [])


def test_only_neighbours_that_differ_are_compared() -> None:
    """A fact that one column lacks differs; an error is a fact; true is not 1."""
    outcomes = {
        "6.1": {"observed": {"a": 1, "b": True}},
        "6.12": {"observed": {"a": 1, "b": 1}},
        "7.3": {"observed": {"a": 2, "b": 1, "c": "x"}},
        "host": {"observed": None, "error": {"slug": "no-netem", "kind": "CapabilityError"}},
    }
    found = {difference.fact: difference for difference in differences("s", "arm", outcomes)}
    assert [(step.older, step.newer) for step in found["a"].steps] == [("6.12", "7.3"), ("7.3", "host")]
    assert [(step.older, step.newer) for step in found["b"].steps] == [("6.1", "6.12"), ("7.3", "host")]
    assert found["c"].values == {"6.1": None, "6.12": None, "7.3": "x", "host": None}
    assert found["error"].values["host"] == "no-netem"
    assert found["a"].open_columns() == {"6.12", "7.3", "host"}
    assert verdicts("s", "arm", {**outcomes, "6.1": {"ok": True}, "6.12": {"ok": True}, "7.3": {"ok": True}}) is None
    assert verdicts("s", "arm", {"6.12": {"ok": True}, "7.3": {"ok": False}}) == {
        "scenario": "s",
        "arm": "arm",
        "6.12": "as predicted",
        "7.3": "not as predicted",
    }


def test_one_step_may_be_a_change_and_the_next_chance() -> None:
    """The row names the change."""
    difference = Difference("s", "a", "f", {"6.1": 1, "6.12": 5, "7.3": 6}, [Step("6.1", "6.12"), Step("6.12", "7.3")])
    difference.look({"6.1": [1] * 8, "6.12": [5, 6] * 4, "7.3": [6, 5] * 4}, last=False)
    row = difference.as_row()
    assert (row["decided"], row["steps"]) == ("change", ["change 6.1 to 6.12 (8 seeds)"])
    assert row["seen"] == {"6.1": 1, "6.12": {"low": 5, "high": 6}, "7.3": {"low": 5, "high": 6}}
    assert summary(["a", "b", "c", "d", "a"]) == ["a", "b", "c", "..."]


def test_what_differs_is_repeated_and_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fixed change after 8 fresh seeds; the draw is chance after 4; arms that are alike are not
    repeated, and nothing is left but the result.
    """
    kernels = Kernels()
    made = measured(tmp_path, kernels, monkeypatch)
    rows = {(row["arm"], row["fact"]): row for row in made["rows"]}
    assert set(rows) == {("changes", "count"), ("draws", "drawn")}
    assert rows["changes", "count"]["steps"] == ["change 6.12 to 7.3 (8 seeds)"]
    assert rows["changes", "count"]["seen"] == {"6.12": 1, "7.3": 3}
    assert rows["draws", "drawn"]["decided"] == "chance"
    assert made["verdicts"] == [
        {"scenario": "claim", "arm": "changes", "6.12": "as predicted", "7.3": "not as predicted"}
    ]
    assert made["columns"][1] == {"name": "7.3", "engine": "guest", "kernel": "7.3.0"}
    assert made["folders"] == {"6.12": {"claim": "runs/6.12/1/made"}, "7.3": {"claim": "runs/7.3/1/made"}}
    assert {seed for _, seed in kernels.ran} == {1, *range(2, 10)}
    assert [path.name for path in tmp_path.iterdir()] == ["compare.json"]
    assert json.loads((tmp_path / "compare.json").read_text()) == made


@pytest.mark.parametrize("ends_after", [0, 1, 2, 7, 12])
def test_an_interrupted_comparison_goes_on(ends_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same result, and no boot runs twice."""
    whole = Kernels()
    undisturbed = measured(tmp_path / "whole", whole, monkeypatch)
    first, second = Kernels(ends_after), Kernels()
    with pytest.raises(KeyboardInterrupt):
        measured(tmp_path / "parts", first, monkeypatch)
    assert measured(tmp_path / "parts", second, monkeypatch) == undisturbed
    assert first.ran + second.ran == whole.ran


def test_without_repetitions_nothing_is_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--seeds 0 shows what differs, and says no more of it."""
    made = measured(tmp_path, Kernels(), monkeypatch, seeds=0)
    assert {row["decided"] for row in made["rows"]} == {"undecided"}


def test_two_columns_are_needed_and_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stand from the oldest to the newest, the host last."""
    known = {"7.3": NEW, "6.12": OLD, "/other/linux": Column("linux", "guest", "/other/linux", "")}
    monkeypatch.setattr(columns_module, "_guest", lambda wanted: known[wanted])
    assert [column.name for column in columns(["7.3", "/other/linux", "6.12"], True)] == [
        "6.12",
        "7.3",
        "linux",
        "host",
    ]
    with pytest.raises(UsageError, match="nothing-to-compare"):
        columns(["7.3"], False)
    known["again"] = NEW
    with pytest.raises(UsageError, match="same-column"):
        columns(["7.3", "again"], False)


def test_one_kernel_in_two_worlds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both columns are of one kernel, and each run is asked for in its world."""
    monkeypatch.setattr(columns_module, "_guest", lambda wanted: {"": NEW, "7.3": NEW, "6.12": OLD}[wanted])
    made = worlds([], False, "kernel")
    assert made == worlds(["7.3"], False, "kernel")
    assert [(column.name, column.kernel, column.world) for column in made] == [
        ("pinned", "/new", "pinned"),
        ("defaults", "/new", "kernel"),
    ]
    assert [column.as_dict().get("world") for column in made] == [None, "kernel"]
    assert [column.engine for column in worlds([], True, "machine")] == ["host", "host"]
    tasks = [compare_driver.repeated(column, [("claim", "control")], 2) for column in made]
    assert [task["world"] for task in tasks] == ["pinned", "kernel"]
    for kernels, host in ((["7.3", "6.12"], False), (["7.3"], True)):
        with pytest.raises(UsageError, match="defaults-of-one-kernel"):
            worlds(kernels, host, "kernel")


def test_two_scenarios_of_one_name_are_refused(tmp_path: Path) -> None:
    """Their results could not be told apart; the message names both files."""
    both = [("one.py", claim), ("two.py", claim)]
    with pytest.raises(UsageError, match=r"'claim': one\.py and two\.py") as caught:
        Comparison(tmp_path, both, [OLD, NEW], seed=1, seeds=0, command="")
    assert caught.value.slug == "same-scenario"


def test_an_arm_without_an_answer_has_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the first runs: it is never alike by default."""

    class Forgetful(Kernels):
        def answers(self, driver: str, tasks: Sequence[Any], workers: int) -> Iterator[tuple[int, Any]]:
            for number, answer in super().answers(driver, tasks, workers):
                if isinstance(answer, pool.Ended) or answer.get("arm") != "control" or tasks[number]["name"] != "7.3":
                    yield number, answer

    made = measured(tmp_path, Forgetful(), monkeypatch, seeds=0)
    errors = {row["arm"]: row["7.3"] for row in made["rows"] if row["fact"] == "error"}
    assert errors == {"control": "worker-ended-early"}


@pytest.mark.guest
def test_a_fact_that_follows_a_pin_is_found(tmp_path: Path) -> None:
    """The kernel's own world differs in the sysctl that the control reads, in the repetition, too."""
    command = [sys.executable, "-m", "twlab", "compare", "tests/data/pinned.py", "--defaults", "--seeds", "1", "--json"]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1, done.stderr
    made = json.loads(done.stdout)
    assert [(row["arm"], row["fact"], row["pinned"], row["defaults"]) for row in made["rows"]] == [
        ("control", "value", "0", "1")
    ]
    assert made["rows"][0]["seen"] == {"pinned": "0", "defaults": "1"}
    assert [column.get("world") for column in made["columns"]] == [None, "kernel"]
    assert made["verdicts"] == [
        {"scenario": "pinned", "arm": "control", "pinned": "as predicted", "defaults": "not as predicted"}
    ]


def test_columns_that_observe_the_same_share_a_ladder() -> None:
    """The first of them stands beside the others and names the rest; one without a ladder does not."""
    panels = [{"column": name, "no_ladder": ""} for name in "abcd"]
    panels[2]["no_ladder"] = "too long"
    comparison_page._mark_alike(panels, [{"a": 1, "b": 1, "c": 1, "d": 2}, {"a": [3], "b": [3], "c": [3], "d": [3]}])
    assert [(panel["alike"], panel["after"]) for panel in panels] == [(["b"], ""), ([], "a"), ([], ""), ([], "")]


@pytest.mark.guest
@pytest.mark.host
def test_the_lab_kernel_beside_this_machine(tmp_path: Path) -> None:
    """The command's table, JSON and page, which has both ladders of each arm side by side. A verdict
    that is the same on both, though it is not the predicted one, is no difference.
    """
    kernel = columns([], True)[-2].kernel
    command = [sys.executable, "-m", "twlab", "compare", "tests/data/compared.py", "--kernel", kernel]
    done = subprocess.run(
        [*command, "--engine", "host", "--seeds", "0", "--out", str(tmp_path), "--json"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    made = json.loads(done.stdout)
    assert made == json.loads((tmp_path / "compare.json").read_text())
    assert {(row["arm"], row["fact"]) for row in made["rows"]} == {
        (arm, fact) for arm in ("control", "held-by-none") for fact in ("noise", "release")
    }
    assert (made["verdicts"], [column["name"] for column in made["columns"]][-1]) == ([], "host")
    text = (tmp_path / "report.html").read_text()
    assert text.count('class="ladder" role="group"') == 4
    assert text.count('aria-label="Ladder on host"') == 2
    shown = page.write([tmp_path], tmp_path / "again.html")
    assert (shown.shown, shown.unreadable) == (1, [])
