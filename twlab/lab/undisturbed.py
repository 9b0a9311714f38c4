"""Repeats an arm that a busy machine may have disturbed, and tells it.

On the host engine the lab needs the processor in time: the wire is a process, and a segment that
waits in it too long is sent again by its sender. Nothing in the claim is about that. So an arm that
came out otherwise than predicted is run again if, and only if, the lab's processes waited so long
for a processor that a timer may have run out. How the arm came out does not decide alone: on a
machine that has time, nothing is repeated, and what is wrong stays wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from twlab.linux.processor import waited_s
from twlab.results.evidence import ArmEvidence

# Half of the shortest timer after which Linux sends a lone segment again, tcp_rto_min_us of the
# baseline. Of several segments under way the last is sent again sooner, by a tail loss probe (a few
# ms, net/ipv4/tcp_output.c, tcp_schedule_loss_probe); a receiver takes that as a duplicate.
LONG_S = 0.1
MOST_RUNS = 3

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class DisturbedRun(Generic[Outcome]):
    """A run that surprised while the lab's processes waited for a processor."""

    outcome: Outcome
    waited_s: float


def run_undisturbed(
    run: Callable[[Sequence[DisturbedRun[Outcome]]], Outcome],
    as_predicted: Callable[[Outcome], bool],
    waited: Callable[[], float] = waited_s,
) -> tuple[Outcome, list[DisturbedRun[Outcome]]]:
    """Run something, again if it surprises and the machine may have disturbed it.

    It returns the outcome of the last run, and the runs before it.

    Args:
        run: runs it once; it is given the runs before.
        as_predicted: whether an outcome is no surprise.
        waited: seconds that the lab's processes have waited for a processor so far.
    """
    before: list[DisturbedRun[Outcome]] = []
    while True:
        before_s = waited()
        outcome = run(before)
        late_s = max(0.0, waited() - before_s)
        if as_predicted(outcome) or late_s < LONG_S or len(before) + 1 == MOST_RUNS:
            return outcome, before
        before.append(DisturbedRun(outcome, late_s))


def run_arm_undisturbed(run: Callable[[str], ArmEvidence], waited: Callable[[], float] = waited_s) -> ArmEvidence:
    """Run an arm, again if it surprises and the machine may have disturbed it.

    It returns the evidence of the last run, in which the runs before are told.

    Args:
        run: runs it once; it is given a remark for the transcript, empty the first time.
        waited: as for `run_undisturbed`.
    """
    evidence, before = run_undisturbed(
        lambda before: run(_remark(before)),
        lambda evidence: evidence.ok is not False and evidence.error is None,
        waited,
    )
    evidence.repeated = [
        {
            "waited_s": round(one.waited_s, 3),
            "observed": one.outcome.observed,
            "mismatches": one.outcome.mismatches,
            "error": one.outcome.error,
        }
        for one in before
    ]
    return evidence


def _remark(before: Sequence[DisturbedRun[ArmEvidence]]) -> str:
    """What the transcript of the run after `before` begins with; empty for the first."""
    if not before:
        return ""
    last = before[-1].outcome
    why = last.error["message"] if last.error else "; ".join(last.mismatches)
    return (
        f"run {len(before) + 1} of this arm: in the one before, the lab waited {before[-1].waited_s:.1f} s for"
        f" a processor, and it came out so: {why}"
    )
