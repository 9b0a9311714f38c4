"""Runs one arm: builds its network, applies its settings, takes the steps.

At the end it gathers the evidence.
"""

from __future__ import annotations

import inspect
import io
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from twlab import user_file
from twlab.errors import EngineError, LabError, ScenarioError, did_you_mean
from twlab.lab.assembly import ProgressFigures, RunningLab, assemble
from twlab.lab.lab import Lab
from twlab.network import describe, load_topology
from twlab.observation import Observation
from twlab.overrides import Overrides
from twlab.results.evidence import ArmEvidence, ArmOutcome
from twlab.results.transcript import Entry
from twlab.scenario import Scenario
from twlab.settings import Settings
from twlab.world import PINNED, World

_MOST_PRINTS = 1000  # lines printed by the steps of an arm that the transcript keeps
_LONGEST_PRINT = 2000  # characters of one


def run_arm(
    scenario: Scenario,
    arm: str,
    overrides: Overrides,
    *,
    seed: int,
    folder: Path,
    forced: Mapping[str, str],
    world: World = PINNED,
    listener: Callable[[Entry], object] | None = None,
    pulse: Callable[[ProgressFigures], object] | None = None,
    attend: Callable[[RunningLab], object] | None = None,
) -> ArmEvidence:
    """Run one arm of `scenario`; return its evidence.

    Args:
        arm: its name.
        overrides: what ``--set`` changes.
        seed: for everything random.
        folder: where the capture is written, as ``<arm>.pcapng``.
        forced: setting to mechanism, where another than the kernel's own is wanted.
        world: what the nodes start from.
        listener: called with every transcript entry as it is made.
        pulse: see `twlab.lab.assembly.assemble`.
        attend: called with the lab before its first step.

    Raises:
        CapabilityError: the kernel cannot do what the settings ask; nothing has been built then.
        UsageError: the topology cannot be made.
        ScenarioError: the arm sets a node that the topology does not have. What the steps
            themselves raise is the outcome's ``error``.
    """
    described = scenario.topology_in(arm, overrides.given)
    topology = load_topology(described)
    settings = settings_of(scenario, arm, topology.nodes(), overrides)
    evidence = ArmEvidence()
    try:
        with assemble(
            topology,
            settings,
            folder / f"{arm}.pcapng",
            seed=f"{seed} {arm}",
            forced=forced,
            world=world,
            listener=listener,
            pulse=pulse,
        ) as running:
            if attend:
                attend(running)
            evidence = running.evidence
            evidence.given = scenario.given_in(arm, overrides)
            evidence.network = {"topology": described, **describe(topology)}
            expect = scenario.prediction(arm, overrides)
            expect = expect.on(os.uname().release) if expect else None
            evidence.record(take_steps(scenario, expect, running.lab, evidence.given))
    except EngineError as fault:  # what has been observed is no evidence then
        evidence.record(ArmOutcome(error=evidence.error or fault.as_dict()))
    return evidence


def settings_of(scenario: Scenario, arm: str, names: Sequence[str], overrides: Overrides) -> dict[str, Settings]:
    """Return the settings of every node of `names` in `arm`.

    Raises:
        ScenarioError: the arm sets a node that the topology does not have (``no-such-node``).
        UsageError: `overrides` do (``no-such-node``).
    """
    if unknown := sorted(set(scenario.arms[arm].on) - set(names)):
        raise ScenarioError(
            f"arm {arm} sets {unknown[0]!r}, which the topology does not have",
            f"its nodes are: {', '.join(names)}",
            "no-such-node",
        )
    overrides.check_nodes(names, scenario.topology_in(arm, overrides.given))
    return {name: scenario.settings_for(arm, name, overrides.at(name)) for name in names}


def take_steps(scenario: Scenario, expect: Observation | None, lab: Lab, given: Mapping[str, Any]) -> ArmOutcome:
    """Take the steps; return the observation and how it compares, or the error.

    The error is the one that ended the steps. Without a prediction (`expect` is None) nothing is
    compared, and ``ok`` is None. Each line that the steps print becomes a note of the transcript.
    """
    try:
        with _Printed(lab) as printed, redirect_stdout(printed):
            observation = scenario.steps(lab, **given)
        if not isinstance(observation, Observation) or not observation:
            raise ScenarioError(
                f"{scenario.name} observed nothing",
                "return an Observation that names at least one fact",
                "checks-nothing",
            )
        mismatches = [] if expect is None else expect.mismatches(observation)
        outcome = ArmOutcome(observation.as_dict(), None if expect is None else not mismatches, mismatches)
    except (Exception, SystemExit) as error:
        # The steps are the scenario author's code. Any error that they raise is this arm's outcome.
        fault = as_dict(error, inspect.getsourcefile(inspect.unwrap(scenario.steps)) or "")
        lab.note(f"the arm ends here: {fault['message']}")
        return ArmOutcome(error=fault)
    if expect is not None and (missing := _never_reported(expect, observation.as_dict())):
        outcome.ok, outcome.error = None, missing.as_dict()
    return outcome


def _never_reported(expect: Observation, observed: Mapping[str, Any]) -> ScenarioError | None:
    """Return the error for predicted facts that the steps do not report.

    None where a reported fact already contradicts the prediction.
    """
    missing = [name for name in expect if name not in observed]
    if not observed or not missing or len(expect.mismatches(observed)) > len(missing):
        return None
    spare = [name for name in observed if name not in expect]
    told = ", ".join(f"{name}{did_you_mean(name, spare)}" for name in missing)
    remedy = f"the steps report: {', '.join(observed)}; predict one of these, or return what is predicted"
    return ScenarioError(f"predicted and never reported: {told}", remedy, "never-reported")


class _Printed(io.TextIOBase):
    """Standard output of the steps: each line becomes a note, up to a bound; the rest is counted."""

    def __init__(self, lab: Lab):
        self._lab = lab
        self._rest = ""
        self._count = 0

    def write(self, text: str) -> int:
        *lines, rest = (self._rest + text).split("\n")
        self._rest = rest[:_LONGEST_PRINT]
        for line in lines:
            self._count += 1
            if self._count <= _MOST_PRINTS:
                self._lab.note(f"prints: {line[:_LONGEST_PRINT]}", printed=True)
            elif self._count == _MOST_PRINTS + 1:
                self._lab.note(f"prints more than {_MOST_PRINTS} lines; the rest is not kept", printed=True)
        return len(text)

    def __exit__(self, *_: object) -> None:
        if self._rest:
            self.write("\n")


def as_dict(error: BaseException, path: str = "") -> dict[str, str]:
    """Return an error as a result keeps it: slug, message, remedy, and ``where``.

    ``where`` is the line of the file at `path` that raised it, if that is known. An exception of
    another kind also goes to standard error, with its traceback.
    """
    where = user_file.place(error, path) if path else ""
    known = {"where": where} if where else {}
    if isinstance(error, LabError):
        return {**error.as_dict(), **known}
    if isinstance(error, OSError):
        return {"slug": "system-error", "message": str(error), "remedy": "see twlab doctor", **known}
    traceback.print_exception(error)
    remedy = (
        "mend that line; the log beside the result has the details"
        if where
        else "the log beside the result has the details"
    )
    return {"slug": "internal-error", "message": user_file.words(error), "remedy": remedy, **known}
