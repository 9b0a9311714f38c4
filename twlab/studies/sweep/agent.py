"""The agent inside a sweep's boots: carries out cells, one after the other.

A cell is an arm that leaves only its observation: no capture, and a transcript of steps and notes.
A
request and its events are as in `twlab.run.agent`. The result of an ``arm`` event has ``kernel``
(its release), and ``observed`` or ``error``."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from random import Random
from typing import Any

from twlab.lab.lab import Lab
from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.results.transcript import Kind, Transcript
from twlab.run.arm import as_dict, settings_of, take_steps
from twlab.scenario import Overrides, Scenario, find_scenario
from twlab.tuning.apply import Tuning
from twlab.wire.wire import Wire

_KEPT_KINDS: frozenset[Kind] = frozenset({"step", "note"})


def carry_out(request: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Run every job of `request`; an error in one cell is that cell's result."""
    for index, job in enumerate(request["jobs"]):
        try:
            scenario = find_scenario(job["source"])
            result = run_cell(
                scenario,
                job["arm"],
                Overrides.parse(job["set"], [scenario]),
                f"{request['seed']} {job['arm']} {job['set']}",
            )
        except Exception as error:  # before the steps began, or in the lab itself
            result = {"error": as_dict(error)}
        reported = {name: result[name] for name in ("observed", "error") if name in result}
        emit({"event": "arm", "job": index, "result": {"kernel": os.uname().release, **reported}})
    emit({"event": "end"})


def run_cell(scenario: Scenario, arm: str, overrides: Overrides, seed: str) -> dict[str, Any]:
    """Run the steps of `arm` with its settings and `overrides`.

    Returns:
        ``observed``, or ``error``.

    Raises:
        As `twlab.run.arm.run_arm`.
    """
    chosen = scenario.arms[arm]
    topology = load_topology(scenario.topology_in(arm, overrides.given))
    settings = settings_of(scenario, arm, topology.nodes(), overrides, {})
    with ExitStack() as stack:
        loop = Loop()
        stack.callback(loop.close)
        transcript = Transcript(lambda: loop.now_s, keeps=_KEPT_KINDS)
        network = stack.enter_context(Network(topology))
        for name, node in network.nodes.items():
            stack.enter_context(Tuning(node, settings[name], loop, transcript))
        wires = {
            name: stack.enter_context(Wire(node, loop, transcript))
            for name, node in network.nodes.items()
            if node.role == "wire"
        }
        lab = Lab(network, loop, transcript, wires, settings, Random(seed))
        stack.callback(lab.closing.close)
        return take_steps(
            scenario,
            scenario.prediction(arm, overrides),
            lab,
            {**scenario.parameters, **chosen.given, **overrides.given},
        )
