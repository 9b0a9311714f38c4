"""What a scenario holds in its hand: the nodes, the wire, the clock, and words for what it does.

`run_arm` builds the network of one arm, puts its settings into force, lets the scenario's steps run, and gathers the evidence.
"""

from __future__ import annotations

import os
import platform
import random
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twlab import counters, timewait
from twlab.capture import Capture
from twlab.errors import ScenarioError
from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.observation import Observation
from twlab.scenario import Overrides, Scenario
from twlab.settings import Settings
from twlab.traffic import Connection, Host
from twlab.transcript import Entry, Transcript
from twlab.tuning import Tuning, check
from twlab.wire import Wire

_SAMPLE = 20  # TIME_WAIT sockets listed in one row of the evidence; the count is always there


class Lab:
    """The network of one arm, running.

    ``lab["client"]`` is a node as a `Host`; `lab.wire` is the wire (`lab.wires` by name, where a topology has several).

    Attributes:
        loop: the lab's clock and event loop.
        transcript: what has been done.
        random: a generator seeded by the run's seed and the arm's name.
        settings: the settings in force, by node name.
    """

    def __init__(self, network: Network, loop: Loop, transcript: Transcript, wires: Mapping[str, Wire], settings: Mapping[str, Settings], rng: random.Random):
        self.network = network
        self.loop = loop
        self.transcript = transcript
        self.wires = wires
        self.settings = settings
        self.random = rng
        self.time_wait_samples: list[dict[str, Any]] = []
        self._hosts = {name: Host(node, loop, transcript) for name, node in network.nodes.items()}
        self._counters = {name: counters.read(node) for name, node in network.nodes.items()}

    def __getitem__(self, name: str) -> Host:
        if name not in self._hosts:
            raise ScenarioError(f"this topology has no node called {name!r}", f"its nodes are: {', '.join(self._hosts)}", "no-such-node")
        return self._hosts[name]

    @property
    def wire(self) -> Wire:
        """The wire; the first one where there are several."""
        return next(iter(self.wires.values()))

    @property
    def now_s(self) -> float:
        """Seconds since the arm began."""
        return self.loop.now_s

    def step(self, text: str) -> None:
        """Begin a step, in words. What is done until the next one belongs to it."""
        self.transcript.record("step", text)
        self.sample_time_wait()

    def note(self, text: str, **details: Any) -> None:
        """Put a finding into the transcript."""
        self.transcript.record("note", text, **details)

    def require(self, holds: object, premise: str) -> None:
        """The arm only means something if `premise` holds: where it does not, the arm is not carried out and the verdict is INCONCLUSIVE.

        Raises:
            ScenarioError: it does not (``premise-failed``).
        """
        self.transcript.record("check", f"{premise}: {'yes' if holds else 'NO'}")
        if not holds:
            raise ScenarioError(f"a premise of the scenario does not hold: {premise}", "see the transcript; a busy machine may be too slow", "premise-failed")

    def sleep(self, duration_s: float) -> None:
        """Let `duration_s` seconds pass; the wire and all applications go on."""
        self.loop.sleep(duration_s)

    def sleep_until(self, at_s: float) -> None:
        """Let time pass until `now_s` is `at_s`."""
        self.loop.sleep_until(at_s)

    def wait_until(self, condition: Callable[[], object], timeout_s: float = 10.0) -> bool:
        """Let time pass until `condition()` is true; whether it was, within `timeout_s`."""
        return self.loop.wait_until(condition, timeout_s)

    def transfer(self, sender: Connection, receiver: Connection, count: int, filler: bytes = b"o") -> float:
        """Send `count` filler bytes and wait until the other application has them; the seconds it took.

        Raises:
            ScenarioError: they did not all arrive (``transfer-failed``).
        """
        began_s, before = self.now_s, receiver.received
        sender.send(filler * count)
        if not receiver.wait_received(before + count):
            raise ScenarioError(f"{receiver.received - before} of {count} bytes arrived", slug="transfer-failed")
        return self.now_s - began_s

    def time_wait(self, node: str) -> list[timewait.TimeWait]:
        """The TIME_WAIT sockets of a node, now."""
        return timewait.table(self.network[node])

    def moved(self, node: str, counter: str) -> int:
        """How far a kernel counter of `node` has moved since the arm began, e.g. ``moved("server", "PAWSEstab")``."""
        return counters.read(self.network[node]).get(counter, 0) - self._counters[node].get(counter, 0)

    def all_moved(self) -> dict[str, dict[str, int]]:
        """Every counter that has moved since the arm began, by node."""
        return {name: counters.delta(self._counters[name], counters.read(node)) for name, node in self.network.nodes.items()}

    def sample_time_wait(self) -> None:
        """Put the TIME_WAIT tables as they are now into the evidence."""
        for name, node in self.network.nodes.items():
            if node.role == "endpoint" and (table := timewait.table(node)):
                sockets = [entry.as_dict() for entry in table[:_SAMPLE]]
                self.time_wait_samples.append({"at_s": round(self.now_s, 3), "node": name, "count": len(table), "sockets": sockets})


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
        The fields of `twlab.result.ArmResult` as JSON values, and ``kernel`` and ``versions``.

    Raises:
        CapabilityError: the kernel cannot do what the settings ask; nothing has been built then.
        UsageError: the topology cannot be made.
        ScenarioError: a step could not be taken. It carries the transcript so far as `transcript`.
    """
    chosen = scenario.arms[arm]
    topology = load_topology(scenario.topology)
    names = topology.nodes()
    if unknown := sorted(set(chosen.on) - set(names)):
        raise ScenarioError(f"arm {arm} sets {unknown[0]!r}, which the topology does not have", f"its nodes are: {', '.join(names)}", "no-such-node")
    settings = {name: scenario.settings_for(arm, name, overrides.settings) for name in names}
    for wanted in settings.values():
        check(wanted, forced)
    given = {**scenario.parameters, **chosen.given, **overrides.given}
    outcome: dict[str, Any] = {
        "kernel": platform.release(),
        "versions": versions(),
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
        try:
            observation = scenario.steps(lab, **given)
            if not isinstance(observation, Observation) or not observation:
                raise ScenarioError(f"{scenario.name} observed nothing", "return an Observation that names at least one fact", "checks-nothing")
            outcome["observed"] = observation.as_dict()
            outcome["mismatches"] = chosen.expect.mismatches(observation)
            outcome["ok"] = not outcome["mismatches"]
        except (ScenarioError, OSError) as error:
            transcript.record("note", f"the arm ends here: {error}")
            outcome["error"] = _as_dict(error)
        lab.sample_time_wait()
        outcome |= {
            "effective": {name: dict(tuning.effective) for name, tuning in tunings.items()},
            "counters": {name: moved for name, moved in lab.all_moved().items() if moved},
            "time_wait": lab.time_wait_samples,
            "virtual_s": round(loop.now_s, 6),
        }
    # Only now: a mechanism that runs beside the lab tells how it did when it is stopped, and a capture what it lost.
    outcome |= {
        "mechanisms": {name: dict(tuning.mechanisms) for name, tuning in tunings.items() if tuning.mechanisms},
        "transcript": [entry.as_dict() for entry in transcript.entries],
        "captured": capture.written,
        "lost": capture.lost,
    }
    return outcome


def versions() -> dict[str, str]:
    """What a result must name to be read years later."""
    from importlib.metadata import version

    return {
        "twlab": version("twlab"),
        "python": platform.python_version(),
        "kernel": f"{os.uname().release} {os.uname().version}",
        "machine": platform.machine(),
    } | {package: version(package) for package in ("mininet", "pyroute2", "scapy", "netfilterqueue")}


def _as_dict(error: ScenarioError | OSError) -> dict[str, str]:
    if isinstance(error, ScenarioError):
        return {"slug": error.slug, "message": error.message, "remedy": error.remedy}
    return {"slug": "system-error", "message": str(error), "remedy": "see twlab doctor"}
