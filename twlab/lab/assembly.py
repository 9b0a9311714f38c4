"""Assembles a running lab from its parts, and gathers its evidence.

Arms, tests and the shell use `assemble`, which records everything. The cells of a sweep need the
observation of the steps only: `assemble_unrecorded`. A study with its own applications needs only
nodes: `assemble_nodes`.
"""

from __future__ import annotations

import random
import resource
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from twlab.errors import LabError
from twlab.lab.lab import Lab
from twlab.lab.socket_counts import SocketCounts
from twlab.loop import Loop
from twlab.network import Network, Topology
from twlab.results.evidence import ArmEvidence
from twlab.results.transcript import Entry, EntryKind, Transcript
from twlab.settings import Settings
from twlab.tuning.apply import Tuning, check
from twlab.tuning.new_namespaces import begin_namespaces_in
from twlab.wire.capture import Capture
from twlab.wire.wire import Wire
from twlab.world import PINNED, World

_LISTED = 200  # sockets of a node, in the evidence


class ProgressFigures(NamedTuple):
    """Progress figures of a running lab.

    Attributes:
        at_s: seconds since it began.
        packets: that its wires and gateways have seen.
        time_wait: sockets in TIME_WAIT.
    """

    at_s: float
    packets: int
    time_wait: int


@dataclass
class RunningLab:
    """A running lab and its evidence.

    Attributes:
        lab: the object passed to the steps.
        capture: records what crosses the wires and the gateways.
        tunings: node to its settings as they are applied.
        settings: node to the settings that were asked for.
        counts: samples the nodes' socket counts.
        world: what the nodes started from.
        evidence: complete once the lab has ended; `gather` returns it meanwhile.
    """

    lab: Lab
    capture: Capture
    tunings: dict[str, Tuning]
    settings: dict[str, Settings]
    counts: SocketCounts
    world: World = PINNED
    evidence: ArmEvidence = field(default_factory=ArmEvidence)

    def gather(self) -> ArmEvidence:
        """Return the evidence as it is now."""
        at_s = self.lab.now_s  # before anything is read: on a busy machine that takes time, and the tables are of now
        self.lab.sample()
        self.counts.sample()
        series = self.counts.series
        found = self.evidence
        found.left = {name: self._sockets(name) for name in series if sum(series[name][-1][1:]) <= _LISTED}
        found.effective = {name: dict(tuning.effective) for name, tuning in self.tunings.items()}
        found.counters = {name: moved for name, moved in self.lab.all_moved().items() if moved}
        found.time_wait = self.lab.time_wait_samples
        found.sockets = {name: rows for name, rows in series.items() if len(rows) > 1}
        found.conntrack = self.lab.conntrack_samples
        found.tables = self.lab.tables
        found.virtual_s = round(at_s, 6)
        return replace(found, **self._known_late())

    def retune(self, name: str, settings: Settings) -> None:
        """Apply other settings to the node `name`, for what begins from now on.

        Raises:
            CapabilityError: the kernel cannot do what they ask; those before stay.
        """
        check(settings)
        before = self.tunings[name]
        before.__exit__()
        node, world = self.lab.network[name], self.world
        tuning = Tuning(node, settings, self.lab.loop, self.lab.transcript, world=world, before=before)
        self.tunings[name] = self.lab.closing.enter_context(tuning)
        self.settings[name] = settings
        self.evidence.settings[name] = settings.as_dict()

    def close(self) -> None:
        """Complete the evidence, once all parts have been stopped."""
        for name, value in self._known_late().items():
            setattr(self.evidence, name, value)

    @property
    def fault(self) -> LabError | None:
        """After the end: why the lab may have missed segments; None where it has not."""
        return self.capture.fault or next((wire.fault for wire in self.lab.wires.values() if wire.fault), None)

    def _sockets(self, name: str) -> list[dict[str, str]]:
        """Return the TCP sockets of a node, as the evidence lists them."""
        return [
            {"state": s.state, "local": f"{s.local}:{s.local_port}", "remote": f"{s.remote}:{s.remote_port}"}
            for s in self.lab.sockets(name)
        ]

    def _known_late(self) -> dict[str, Any]:
        """Return the fields that change until the end.

        An emulation reports what it did when it is stopped, and a capture what it lost.
        """
        return {
            "mechanisms": {name: dict(tuning.mechanisms) for name, tuning in self.tunings.items() if tuning.mechanisms},
            "transcript": [entry.as_dict() for entry in self.lab.transcript.entries],
            "captured": self.capture.written,
            "lost": self.capture.lost,
        }


class _Progress:
    """Calls `pulse` with the progress figures, where they have changed."""

    def __init__(self, loop: Loop, capture: Capture, counts: SocketCounts, pulse: Callable[[ProgressFigures], object]):
        self._loop = loop
        self._capture = capture
        self._counts = counts
        self._pulse = pulse
        self._last = (0, 0)

    def report(self, *_: object) -> None:
        figures = self._capture.seen, self._counts.time_wait
        if figures != self._last:
            self._pulse(ProgressFigures(round(self._loop.now_s, 3), *figures))
        self._last = figures


@contextmanager
def assemble(
    topology: Topology,
    settings: Mapping[str, Settings],
    capture: Path,
    *,
    seed: str,
    forced: Mapping[str, str] | None = None,
    world: World = PINNED,
    listener: Callable[[Entry], object] | None = None,
    pulse: Callable[[ProgressFigures], object] | None = None,
) -> Iterator[RunningLab]:
    """Build a lab, apply `settings`, and capture its traffic, for the block.

    Args:
        settings: of every node, by its name.
        capture: the pcapng file.
        seed: for everything random.
        forced: setting to mechanism, if not the kernel's own.
        world: what the nodes start from.
        listener: called with every transcript entry as it is made.
        pulse: called before that, and after a second in which figures have changed.

    Raises:
        CapabilityError: the kernel cannot do what the settings ask (nothing has been built then),
            or what the topology needs.
        EngineError: the lab does not see what it should (``blind-lab``, ``sent-not-seen``); on
            leaving, too, and then the evidence is complete.
    """
    with ExitStack() as stack:
        loop, network = _build(stack, topology, settings, forced, world)
        recorder = Capture([node for node in network if node.role in ("wire", "gateway")], capture, loop)
        counts = SocketCounts((node for node in network if node.role == "endpoint"), loop)
        transcript = Transcript(lambda: loop.now_s)
        transcript.subscribe(counts.hear)
        if pulse:
            progress = _Progress(loop, recorder, counts, pulse)
            counts.on_change = progress.report
            transcript.subscribe(progress.report)
        if listener:
            transcript.subscribe(listener)
        stack.enter_context(counts)
        tunings = _tune(stack, network, settings, loop, transcript, forced, world)
        stack.enter_context(recorder)
        asked = dict(settings)
        lab = _lab(stack, network, loop, transcript, asked, seed, recorder)
        running = RunningLab(lab, recorder, tunings, asked, counts, world)
        running.evidence.settings = {name: wanted.as_dict() for name, wanted in settings.items()}
        running.evidence.capture = capture.name
        yield running
        running.gather()
        recorder.close()  # before any part ends: what they send then belongs to no arm
    running.close()
    if running.fault:
        raise running.fault


@contextmanager
def assemble_unrecorded(
    topology: Topology,
    settings: Mapping[str, Settings],
    *,
    seed: str,
    keeps: frozenset[EntryKind] | None = None,
    world: World = PINNED,
) -> Iterator[Lab]:
    """Build a lab without capture and evidence, for the block.

    Args:
        settings: of every node, by its name.
        seed: for everything random.
        keeps: kinds of transcript entries that are made; None: all.
        world: what the nodes start from.

    Raises:
        CapabilityError: the kernel cannot do what the settings ask, or what the topology needs.
    """
    with ExitStack() as stack:
        loop, network = _build(stack, topology, settings, None, world)
        transcript = Transcript(lambda: loop.now_s, keeps)
        _tune(stack, network, settings, loop, transcript, None, world)
        yield _lab(stack, network, loop, transcript, dict(settings), seed, None)


@contextmanager
def assemble_nodes(topology: Topology, settings: Mapping[str, Settings]) -> Iterator[tuple[Loop, Network]]:
    """Build a network whose wires forward by themselves, for the block.

    Args:
        settings: of some nodes, by their names; the others keep what a namespace begins with.

    Raises:
        CapabilityError: the kernel cannot do what the settings ask, or what the topology needs.
    """
    with ExitStack() as stack:
        loop, network = _build(stack, topology, settings, None, PINNED)
        _tune(stack, network, settings, loop, Transcript(lambda: loop.now_s), None)
        yield loop, network


def _build(
    stack: ExitStack,
    topology: Topology,
    settings: Mapping[str, Settings],
    forced: Mapping[str, str] | None,
    world: World,
) -> tuple[Loop, Network]:
    """Check the settings, and build the network."""
    for wanted in settings.values():
        check(wanted, forced)
    # A scenario may hold more sockets open than the 1,024 files that a process has to begin with.
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    loop = Loop()
    stack.callback(loop.close)
    begin_namespaces_in(world)
    return loop, stack.enter_context(Network(topology))


def _tune(
    stack: ExitStack,
    network: Network,
    settings: Mapping[str, Settings],
    loop: Loop,
    transcript: Transcript,
    forced: Mapping[str, str] | None,
    world: World = PINNED,
) -> dict[str, Tuning]:
    """Apply the settings that each node has."""
    return {
        name: stack.enter_context(Tuning(network[name], wanted, loop, transcript, forced, world))
        for name, wanted in settings.items()
    }


def _lab(
    stack: ExitStack,
    network: Network,
    loop: Loop,
    transcript: Transcript,
    settings: Mapping[str, Settings],
    seed: str,
    recorder: Capture | None,
) -> Lab:
    """Start the wires, and return the lab."""
    wires = {
        name: stack.enter_context(Wire(node, loop, transcript, recorder))
        for name, node in network.nodes.items()
        if node.role == "wire"
    }
    lab = Lab(network, loop, transcript, wires, settings, random.Random(seed))
    stack.callback(lab.closing.close)
    return lab
