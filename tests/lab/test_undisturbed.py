"""An arm is run again only where it surprised and the machine was busy, and both are told."""

from __future__ import annotations

from pathlib import Path

from twlab.lab.undisturbed import MOST_RUNS, DisturbedRun, run_arm_undisturbed, run_undisturbed
from twlab.linux.processor import waited_s
from twlab.results.evidence import ArmEvidence
from twlab.results.result import ArmPrediction, ArmResult

FINE = {"ok": True, "observed": {"reopened": True}}
WRONG = {"ok": False, "observed": {"reopened": False}, "mismatches": ["reopened: False, predicted True"]}
FAILED = {"error": {"slug": "premise-failed", "message": "a premise does not hold", "remedy": "look"}}


def carried_out(outcomes: list[dict], waits_s: list[float]) -> tuple[ArmEvidence, list[str]]:
    """Runs that come out as `outcomes`, while the lab waits `waits_s`; and the remark of each."""
    clock, remarks = [0.0], []

    def run(remark: str) -> ArmEvidence:
        clock[0] += waits_s[len(remarks)]
        remarks.append(remark)
        return ArmEvidence(**outcomes[len(remarks) - 1])

    return run_arm_undisturbed(run, lambda: clock[0]), remarks


def test_what_comes_out_as_predicted_runs_once_however_busy_the_machine() -> None:
    """Nothing to explain, nothing to repeat."""
    evidence, remarks = carried_out([FINE], [9.0])
    assert (evidence.ok, evidence.repeated, remarks) == (True, [], [""])


def test_on_a_machine_that_has_time_nothing_is_repeated() -> None:
    """A wrong prediction stays wrong, and a premise that fails has failed."""
    for outcome in (WRONG, FAILED):
        evidence, remarks = carried_out([outcome], [0.09])
        assert (evidence.ok, evidence.error, remarks) == (outcome.get("ok"), outcome.get("error"), [""])


def test_an_arm_without_prediction_is_not_repeated() -> None:
    """It cannot surprise."""
    evidence, remarks = carried_out([{"ok": None, "observed": {"reopened": True}}], [9.0])
    assert (evidence.repeated, len(remarks)) == ([], 1)


def test_a_disturbed_arm_is_repeated_and_its_first_outcome_kept() -> None:
    """Each run before has its outcome and how long the lab waited; the transcript begins with why."""
    evidence, remarks = carried_out([WRONG, FAILED, FINE], [0.5, 0.25, 3.0])
    assert evidence.ok is True
    assert [(one["waited_s"], one["mismatches"], one["error"]) for one in evidence.repeated] == [
        (0.5, WRONG["mismatches"], None),
        (0.25, [], FAILED["error"]),
    ]
    assert remarks[1].startswith("run 2 of this arm") and WRONG["mismatches"][0] in remarks[1]
    assert remarks[2].startswith("run 3 of this arm") and "a premise does not hold" in remarks[2]
    told = ArmResult.of(ArmPrediction("control"), evidence).outcome
    assert told == "as predicted, in run 3 of it on a busy machine"


def test_what_is_wrong_on_a_busy_machine_too_stays_wrong() -> None:
    """The last run counts, and there are no more than three."""
    evidence, remarks = carried_out([WRONG] * 9, [0.5] * 9)
    assert (evidence.ok, len(remarks)) == (False, MOST_RUNS)
    assert ArmResult.of(ArmPrediction("control"), evidence).outcome.startswith("not as predicted, in run 3")


def test_what_has_an_outcome_can_be_run_so() -> None:
    """Each run is given those before it; the last outcome is returned beside them."""
    waits_s = iter([0.0, 0.5, 0.5, 0.5])
    outcome, before = run_undisturbed(len, lambda outcome: outcome == 1, lambda: next(waits_s))
    assert (outcome, before) == (1, [DisturbedRun(0, 0.5)])


def test_waiting_is_summed_over_threads(tmp_path: Path) -> None:
    """The kernel's second figure, in ns; what cannot be read counts nothing."""
    for place, text in {
        "1/task/1": "50 2000000000 3",
        "1/task/2": "7 500000000 1",
        "30/task/30": "",
        "31/task/31": "0 x 0",
        "self/task/9": "0 9000000000 0",
    }.items():
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "schedstat").write_text(text)
    (tmp_path / "32/task/32").mkdir(parents=True)
    assert waited_s(tmp_path) == 2.5
    assert waited_s(tmp_path / "nowhere") == 0.0
