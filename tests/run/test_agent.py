"""The agent runs an arm again on the host engine only: in virtual time nothing is late."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from twlab.engines.protocol import Job, arms_request
from twlab.lab.undisturbed import run_arm_undisturbed
from twlab.results.evidence import ArmEvidence
from twlab.run import agent


@pytest.mark.parametrize(("engine", "runs"), [("host", 2), ("guest", 1)])
def test_a_disturbed_arm_runs_again_on_the_host_engine(
    engine: str, runs: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The event has the last run's evidence with the first outcome in it, and the second run's
    transcript begins with the remark.
    """
    noted: list[str] = []

    def run_arm(*_: Any, attend: Any = None, **__: Any) -> ArmEvidence:
        if attend:
            attend(SimpleNamespace(lab=SimpleNamespace(note=noted.append)))
        return ArmEvidence(ok=bool(noted), mismatches=[] if noted else ["reopened: False"])

    waits = iter([0.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr(agent, "run_arm", run_arm)
    monkeypatch.setattr(agent, "run_arm_undisturbed", partial(run_arm_undisturbed, waited=lambda: next(waits)))
    job = Job(source="stale-data", arm="control", folder=str(tmp_path), set={})
    events: list[dict[str, Any]] = []
    agent.carry_out(arms_request([job], seed=1, engine=engine), events.append)
    result = events[1]["result"]
    assert (result["ok"], len(result["repeated"]) + 1, len(noted) + 1) == (runs == 2, runs, runs)
    assert all(remark.startswith("run 2 of this arm") for remark in noted)
