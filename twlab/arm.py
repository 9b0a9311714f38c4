"""One arm, carried out: builds its network, puts its settings into force, lets the steps run, gathers the evidence."""

from __future__ import annotations

import os
import random
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twlab.capture import Capture
from twlab.errors import LabError, ScenarioError
from twlab.lab import Lab
from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.observation import Observation
from twlab.scenario import Arm, Overrides, Scenario
from twlab.settings import Settings
from twlab.transcript import Entry, Transcript
from twlab.tuning import Tuning, check
from twlab.wire import Wire


def run_arm(
    scenario: Scenario,
    arm: str,
    overrides: Overrides,
    *,
    seed: int,
    folder: Path,
    forced: Mapping[str, str],
    listener: Callable[[Entry], object] | None = None,
) -> dict[str, Any]:
    """Carry out one arm of `scenario`.

    Args:
        arm: its name.
        overrides: what ``--set`` changes.
        seed: for everything random.
        folder: where the capture is written, as ``<arm>.pcapng``.
        forced: setting to mechanism, where another than the kernel's own is wanted.
        listener: called with every transcript entry as it is made.

    Returns:
        The fields of `twlab.result.ArmResult` as JSON values, and ``kernel``: release, version and machine of the kernel that TCP runs on.

    Raises:
        CapabilityError: the kernel cannot do what the settings ask; nothing has been built then.
        UsageError: the topology cannot be made.
        ScenarioError: the arm sets a node that the topology does not have. What the steps themselves raise is the outcome's ``error``.
    """
    chosen = scenario.arms[arm]
    topology = load_topology(scenario.topology_in(arm, overrides.given))
    settings = _settings(scenario, arm, topology.nodes(), overrides, forced)
    given = {**scenario.parameters, **chosen.given, **overrides.given}
    outcome: dict[str, Any] = {
        "kernel": " ".join(os.uname()[2:5]),
        "settings": {name: wanted.as_dict() for name, wanted in settings.items()},
        "given": given,
        "capture": f"{arm}.pcapng",
    }
    with ExitStack() as stack:
        loop = Loop()
        stack.callback(loop.close)
        transcript = Transcript(lambda: loop.now_s, listener)
        network = stack.enter_context(Network(topology))
        tunings = {name: stack.enter_context(Tuning(node, settings[name], loop, transcript, forced)) for name, node in network.nodes.items()}
        watched = [node for node in network.nodes.values() if node.role in ("wire", "gateway")]
        capture = stack.enter_context(Capture(watched, folder / outcome["capture"], loop))
        wires = {name: stack.enter_context(Wire(node, loop, transcript, capture)) for name, node in network.nodes.items() if node.role == "wire"}
        lab = Lab(network, loop, transcript, wires, settings, random.Random(f"{seed} {arm}"))
        stack.callback(lab.closing.close)
        outcome |= _take_steps(scenario, chosen, lab, given)
        lab.sample()
        outcome |= {
            "effective": {name: dict(tuning.effective) for name, tuning in tunings.items()},
            "counters": {name: moved for name, moved in lab.all_moved().items() if moved},
            "time_wait": lab.time_wait_samples,
            "conntrack": lab.conntrack_samples,
            "tables": lab.tables,
            "virtual_s": round(loop.now_s, 6),
        }
    # Only now: a mechanism that runs beside the lab tells how it did when it is stopped, and a capture what it lost.
    return outcome | {
        "mechanisms": {name: dict(tuning.mechanisms) for name, tuning in tunings.items() if tuning.mechanisms},
        "transcript": [entry.as_dict() for entry in transcript.entries],
        "captured": capture.written,
        "lost": capture.lost,
    }


def _settings(scenario: Scenario, arm: str, names: Sequence[str], overrides: Overrides, forced: Mapping[str, str]) -> dict[str, Settings]:
    """Every node's settings, known to be possible."""
    if unknown := sorted(set(scenario.arms[arm].on) - set(names)):
        raise ScenarioError(f"arm {arm} sets {unknown[0]!r}, which the topology does not have", f"its nodes are: {', '.join(names)}", "no-such-node")
    settings = {name: scenario.settings_for(arm, name, overrides.settings) for name in names}
    for wanted in settings.values():
        check(wanted, forced)
    return settings


def _take_steps(scenario: Scenario, chosen: Arm, lab: Lab, given: Mapping[str, Any]) -> dict[str, Any]:
    """The observation and how it compares, or what kept the steps from being taken; the transcript tells the story up to there."""
    try:
        observation = scenario.steps(lab, **given)
        if not isinstance(observation, Observation) or not observation:
            raise ScenarioError(f"{scenario.name} observed nothing", "return an Observation that names at least one fact", "checks-nothing")
        mismatches = chosen.expect.mismatches(observation)
        return {"observed": observation.as_dict(), "mismatches": mismatches, "ok": not mismatches}
    except Exception as error:  # the steps are anybody's code; whatever it raises is this arm's outcome
        lab.note(f"the arm ends here: {error}")
        return {"error": as_dict(error)}


def as_dict(error: Exception) -> dict[str, str]:
    """An error as a result keeps it: slug, message, remedy. What nobody raised on purpose also goes to standard error, with its traceback."""
    if isinstance(error, LabError):
        return error.as_dict()
    if isinstance(error, OSError):
        return {"slug": "system-error", "message": str(error), "remedy": "see twlab doctor"}
    traceback.print_exception(error)
    return {"slug": "internal-error", "message": f"{type(error).__name__}: {error}", "remedy": "the log beside the result has the details"}
