"""Repeats an arm that a busy machine may have disturbed, and tells it.

On the host engine the lab needs the processor in time: the wire is a process, and a segment that
waits in it too long is sent again by its sender. Nothing in the claim is about that. So an arm that
came out otherwise than predicted is run again if, and only if, the lab's processes waited so long
for a processor that a timer may have run out. How the arm came out does not decide alone: on a
machine that has time, nothing is repeated, and what is wrong stays wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twlab.linux.processor import waited_s
from twlab.results.evidence import ArmEvidence

LONG_S = 0.1  # half of the shortest retransmission timer, tcp_rto_min_us of the baseline
MOST_RUNS = 3


def run_undisturbed(run: Callable[[str], ArmEvidence], waited: Callable[[], float] = waited_s) -> ArmEvidence:
    """Run an arm, again if the machine may have disturbed it.

    It returns the evidence of the last run.

    Args:
        run: runs it once; it is given a remark for the transcript, empty the first time.
        waited: seconds that the lab's processes have waited for a processor so far.
    """
    repeated: list[dict[str, Any]] = []
    remark = ""
    while True:
        before_s = waited()
        evidence = run(remark)
        late_s = max(0.0, waited() - before_s)
        evidence.repeated = repeated
        as_predicted = evidence.ok is not False and evidence.error is None
        if as_predicted or late_s < LONG_S or len(repeated) + 1 == MOST_RUNS:
            return evidence
        repeated.append(
            {
                "waited_s": round(late_s, 3),
                "observed": evidence.observed,
                "mismatches": evidence.mismatches,
                "error": evidence.error,
            }
        )
        why = evidence.error["message"] if evidence.error else "; ".join(evidence.mismatches)
        remark = f"run {len(repeated) + 1} of this arm: in the one before, the lab waited {late_s:.1f} s for"
        remark += f" a processor, and it came out so: {why}"
