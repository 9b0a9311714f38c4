"""The agent that examines a student's scenario, in a lab kernel of its own.

That kernel never runs anything else. The scenario is loaded only in a jail (`twlab.grading.jail`).
In each arm the examiner reads from the kernel itself: the settings of every node, TCP segments and
connections, sockets in TIME_WAIT. Its request is ``{"text": the file, "seed": ...}``. Its events:

    begin        from here on the scenario is to blame if no ``end`` comes
    described    problem, scenario: {"name", "hypothesis", "topology", "arms": {arm: {"role",
                 "expect", "given", "nodes"}}}
    try          arm, placebo
    outcome      arm, placebo, outcome: {"problem", "ended", "observed", "evidence"}
    end

Evidence is ``{"differs": settings that the kernel does not have, "segments", "connections",
"time_wait": numbers}``. ``ended`` means that the process did not finish; no further arm is run
then. A ``placebo`` is a second run of a treatment that differs from the control only in its
settings: the examiner sets the kernel back to what it was in the control, without the scenario's
knowledge.
"""

from __future__ import annotations

import functools
import math
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from twlab.catalogue import scenario_here
from twlab.errors import LabError
from twlab.grading import jail
from twlab.linux import counters, inet_diag, rtnetlink, sysctl
from twlab.linux.syscalls import inside_network_namespace
from twlab.network import load_topology
from twlab.observation import Observation
from twlab.overrides import Overrides
from twlab.run.arm import run_arm, settings_of
from twlab.scenario import Scenario
from twlab.settings import Settings
from twlab.tuning.apply import KNOBS, check

_FILE = "/run/submission.py"  # where the untrusted process finds it
_MOST_ARMS, _MOST_NODES, _MOST_FACTS, _LONGEST = 16, 300, 50, 200
Sysctls = dict[str, dict[str, str]]  # node to name to value
Event = dict[str, Any]


def carry_out(request: dict[str, Any], emit: Callable[[Event], None]) -> None:
    """Examine the scenario of `request`; the events report the outcome."""
    rtnetlink.load()  # each arm has a process of its own, forked from this one
    emit({"event": "begin"})
    jail.prepare()
    # A user namespace may do less than root: what a scenario could ask for on the guest engine is
    # allowed here beforehand.
    sysctl.write(
        "net.ipv4.tcp_allowed_congestion_control", sysctl.read("net.ipv4.tcp_available_congestion_control") or "reno"
    )
    sysctl.write("net.core.rmem_max", str(64 << 20))
    described, problem = _described(request["text"])
    emit({"event": "described", "scenario": described, "problem": problem})
    if described:
        _try_all(_Arms(request["text"], request["seed"], described, emit), described)
    emit({"event": "end"})


def _described(text: str) -> tuple[Event | None, str]:
    """Return what the scenario says it is, or why it does not load."""
    try:
        return _checked(jail.run(lambda tell, _: tell(_describe()), {_FILE: text}, lambda *_: None)), ""
    except jail.JailError as error:
        return None, str(error)
    except (LabError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return None, str(error)[:_LONGEST]


def _try_all(arms: _Arms, described: Event) -> None:
    control = next(entry for entry in described["arms"].values() if entry["role"] == "control")
    in_control: Sysctls = {}
    for arm, entry in described["arms"].items():
        if not arms.run(arm):  # and so would the others end: they cost what this one has cost
            return
        if entry is control:
            in_control = arms.found
        elif entry["role"] == "treatment" and entry["given"] == control["given"] and _differ(in_control, arms.found):
            arms.run(arm, instead=in_control)


class _Arms:
    """Arms, one after the other.

    Attributes:
        found: the sysctls that settings go into, as they were on each node when the last arm's
            steps began.
    """

    def __init__(self, text: str, seed: int, described: Event, emit: Callable[[Event], None]):
        self._emit = emit
        self._text = text
        self._seed = seed
        self._described = described
        self.found: Sysctls = {}
        self._before: dict[str, dict[str, int]] = {}

    def run(self, arm: str, instead: Sysctls | None = None) -> bool:
        """Run `arm` and report its outcome; returns whether it came to its end.

        Args:
            instead: sysctls in place of the arm's own.
        """
        what = {"arm": arm, "placebo": instead is not None}
        self._emit({"event": "try", **what})
        outcome = self._outcome(arm, instead)
        self._emit({"event": "outcome", **what, "outcome": outcome})
        return not outcome["ended"]

    def _outcome(self, arm: str, instead: Sysctls | None) -> Event:
        self.found, self._before = {}, {}
        evidence: Event = {"differs": [], "segments": 0, "connections": 0, "time_wait": 0}
        wanted = self._described["arms"][arm]["nodes"]

        def attend(stage: str, pid: int, message: Event) -> None:
            for name, node in _nodes(pid, message).items():
                with node.inside():
                    if stage == "ready":
                        self.found[name] = {
                            knob.sysctl: value for knob in KNOBS if (value := sysctl.read(knob.sysctl)) is not None
                        }
                        self._before[name] = counters.read(node)
                        _put(instead.get(name, {}) if instead else {}, self.found[name])
                    else:
                        _add(evidence, counters.delta(self._before.get(name, {}), counters.read(node)))
                    evidence["differs"] += [f"{name} {what}" for what in _differences(wanted.get(name, {}))]

        try:
            said = jail.run(functools.partial(_carry_out_arm, arm, self._seed), {_FILE: self._text}, attend)
        except jail.JailError as error:
            return {"problem": str(error), "ended": True, "observed": {}, "evidence": evidence}
        if missing := sorted(set(wanted) - set(self.found)):
            evidence["differs"].append(f"{missing[0]} was not there")
        problem = "" if said.get("observed") else _text(said.get("problem") or "it observed nothing")
        evidence["differs"] = evidence["differs"][:5]
        return {"problem": problem, "ended": False, "observed": _facts(said.get("observed")), "evidence": evidence}


class _SeenNode:
    """A network namespace of the untrusted process, as the examiner enters it."""

    def __init__(self, fd: int):
        self._fd = fd

    @contextmanager
    def inside(self) -> Iterator[None]:
        with inside_network_namespace(self._fd):
            yield

    def __del__(self) -> None:
        os.close(self._fd)


def _nodes(pid: int, message: Event) -> dict[str, _SeenNode]:
    """Return the nodes behind the file descriptors that the untrusted process names.

    The process is not trusted: a descriptor that cannot be entered is not a node.
    """
    named = message.get("nodes")
    found = {}
    for name, number in list(named.items() if isinstance(named, dict) else ())[:_MOST_NODES]:
        with suppress(OSError, ValueError):
            node = _SeenNode(
                os.open(f"/proc/{pid}/fd/{int(number)}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
            )
            with node.inside():
                found[str(name)[:_LONGEST]] = node
    return found


def _put(wanted: Mapping[str, str], there: Mapping[str, str]) -> None:
    for name, value in wanted.items():
        if there.get(name) != value:
            with suppress(OSError):
                sysctl.write(name, value)


def _differences(settings: Mapping[str, Any]) -> list[str]:
    """Return the sysctls that differ from `settings` in this network namespace.

    Those of gateways count only where there is connection tracking.
    """
    wanted = Settings(**settings)
    for_all = [(knob.sysctl, value) for knob in KNOBS if (value := knob.value(wanted)) is not None]
    return [
        name
        for name, value in for_all
        if (there := sysctl.read(name)) != value and not (there is None or name.startswith("net.netfilter."))
    ]


def _add(evidence: Event, moved: Mapping[str, int]) -> None:
    evidence["segments"] += moved.get("TcpInSegs", 0)
    evidence["connections"] += moved.get("TcpActiveOpens", 0) + moved.get("TcpPassiveOpens", 0)
    with inet_diag.open_socket() as diag:
        evidence["time_wait"] += len(inet_diag.dump(diag, 1 << inet_diag.TIME_WAIT))


def _differ(one: Sysctls, other: Sysctls) -> bool:
    return any(one[name] != other[name] for name in set(one) & set(other))


def _describe() -> Event:
    """Describe the scenario as JSON values, in the jail.

    The predictions are known before anything runs.
    """
    try:
        scenario = scenario_here(_FILE)
        return {"name": scenario.name, "hypothesis": scenario.hypothesis, "topology": scenario.topology,
                "arms": {arm: _described_arm(scenario, arm) for arm in scenario.arms}}  # fmt: skip
    except Exception as error:
        return {"problem": f"{type(error).__name__}: {getattr(error, 'message', error)}"}


def _described_arm(scenario: Scenario, arm: str) -> Event:
    names = load_topology(scenario.topology_in(arm)).nodes()
    settings = settings_of(scenario, arm, names, Overrides())
    for wanted in settings.values():
        check(wanted)
    return {
        "role": scenario.roles[arm],
        "expect": scenario.arms[arm].expect.on(platform.release()).as_dict(),
        "given": {key: str(value) for key, value in scenario.arms[arm].given.items()},
        "nodes": {name: wanted.as_dict() for name, wanted in settings.items()},
    }


def _carry_out_arm(arm: str, seed: int, tell: Callable[[Event], None], wait: Callable[[str, Event], None]) -> None:
    """Run the arm as `twlab run` does, in the jail.

    The examiner looks in before and after the steps.
    """
    scenario = scenario_here(_FILE)

    @functools.wraps(scenario.steps)
    def attended(lab: Any, **given: Any) -> Observation:
        nodes = {"nodes": {name: node.namespace for name, node in lab.network.nodes.items()}}
        wait("ready", nodes)
        observation = scenario.steps(lab, **given)
        wait("taken", nodes)
        return observation

    try:
        evidence = run_arm(
            replace(scenario, steps=attended), arm, Overrides(), seed=seed, folder=Path("/tmp"), forced={}
        )
        tell({"observed": _facts(evidence.observed), "problem": (evidence.error or {}).get("message", "")})
    except Exception as error:
        tell({"problem": f"{type(error).__name__}: {getattr(error, 'message', error)}"})


def _checked(said: Event) -> Event:
    """Check the shape and size of a description, and return it.

    Raises:
        ValueError: it is wrong; a wrong shape may raise KeyError, TypeError or AttributeError, too.
    """
    if said.get("problem"):
        raise ValueError(_text(said["problem"]))
    arms = {
        _text(name): {
            "role": str(arm["role"]),
            "expect": _facts(arm["expect"]),
            "given": _facts(arm["given"]),
            "nodes": {
                _text(node): Settings(**settings).as_dict()
                for node, settings in list(arm["nodes"].items())[:_MOST_NODES]
            },
        }
        for name, arm in said["arms"].items()
    }
    roles = [arm["role"] for arm in arms.values()]
    if not set(roles) <= {"control", "treatment", "remedy"} or roles.count("control") != 1 or roles[0] != "control":
        raise ValueError("it has no control")
    if len(arms) > _MOST_ARMS:
        raise ValueError(f"it has more than {_MOST_ARMS} arms")
    if not all(arm["expect"] for arm in arms.values()):
        raise ValueError("an arm predicts nothing")
    return {
        "name": _text(said["name"]),
        "hypothesis": _text(said["hypothesis"]),
        "topology": _text(said["topology"]),
        "arms": arms,
    }


def _facts(values: Any) -> Event:
    """Return named facts: truth values, numbers, texts or ranges.

    Any other value becomes text.
    """
    facts = list(values.items()) if isinstance(values, Mapping) else []
    return {_text(name): _fact(value) for name, value in facts[:_MOST_FACTS]}


def _fact(value: Any) -> Any:
    if isinstance(value, dict) and set(value) == {"low", "high"}:
        return {end: None if bound is None else float(bound) for end, bound in value.items()}
    if (
        isinstance(value, bool)
        or (isinstance(value, int) and abs(value) < 2**63)
        or (isinstance(value, float) and math.isfinite(value))
    ):
        return value
    return _text(value)


def _text(value: object) -> str:
    return str(value)[:_LONGEST]
