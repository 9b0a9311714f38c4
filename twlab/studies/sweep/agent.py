"""The agent inside a sweep's boots: carries out cells, one after the other.

A cell is an arm that leaves only its observation: no capture, and a transcript of steps and notes.
A request and its events are as in `twlab.run.agent`. The result of an ``arm`` event has ``kernel``
(its release), and ``observed`` or ``error``."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from twlab.catalogue import scenario_here
from twlab.lab.assembly import assemble_unrecorded
from twlab.network import load_topology
from twlab.overrides import Overrides
from twlab.results.evidence import ArmOutcome
from twlab.results.transcript import EntryKind
from twlab.run.arm import as_dict, settings_of, take_steps
from twlab.scenario import Scenario
from twlab.world import World

_KEPT_KINDS: frozenset[EntryKind] = frozenset({"step", "note"})


def carry_out(request: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Run every job of `request`; an error in one cell is that cell's result."""
    world = World.from_dict(request.get("world", {}))
    for index, job in enumerate(request["jobs"]):
        try:
            scenario, changed = scenario_here(job["source"]), Overrides.from_dict(job["set"])
            outcome = run_cell(scenario, job["arm"], changed, seed=job["seed"], world=world)
        except Exception as error:  # before the steps began, or in the lab itself
            outcome = ArmOutcome(error=as_dict(error))
        reported = {name: value for name in ("observed", "error") if (value := getattr(outcome, name))}
        emit({"event": "arm", "job": index, "result": {"kernel": os.uname().release, **reported}})
    emit({"event": "end"})


def run_cell(scenario: Scenario, arm: str, overrides: Overrides, *, seed: str, world: World) -> ArmOutcome:
    """Run the steps of `arm` with its settings and `overrides`.

    Returns:
        What the steps showed.

    Raises:
        As `twlab.run.arm.run_arm`.
    """
    topology = load_topology(scenario.topology_in(arm, overrides.given))
    settings = settings_of(scenario, arm, topology.nodes(), overrides)
    with assemble_unrecorded(topology, settings, seed=seed, keeps=_KEPT_KINDS, world=world) as lab:
        return take_steps(scenario, scenario.prediction(arm, overrides), lab, scenario.given_in(arm, overrides))
