"""A lab set up, with everything about it recorded: what an arm, a test or a person at a prompt
stands on.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from twlab.errors import LabError
from twlab.lab.lab import Lab
from twlab.lab.socket_counts import Gauge
from twlab.loop import Loop
from twlab.network import Network, Topology
from twlab.results.transcript import Entry, Transcript
from twlab.settings import Settings
from twlab.tuning.apply import Tuning, check
from twlab.wire.capture import Capture
from twlab.wire.wire import Wire

_LISTED = 200  # sockets of a node, in the evidence


class Vitals(NamedTuple):
    """How a lab does, for who looks on: seconds since it began, packets seen at its wires and
    gateways, sockets in TIME_WAIT.
    """

    at_s: float
    packets: int
    time_wait: int


@dataclass
class Stage:
    """A running lab and its evidence.

    Attributes:
        lab: what its user holds in the hand.
        capture: what crosses the wires and the gateways.
        tunings: node to its settings in force; settings: what was asked of it.
        gauge: counts their sockets.
        outcome: the fields of `twlab.results.result.ArmResult` that are known without a prediction,
            as JSON values, and ``kernel``: release, version and machine of the kernel that TCP runs
            on. Complete once the stage has been left; `gather` tells what it is meanwhile.
    """

    lab: Lab
    capture: Capture
    tunings: dict[str, Tuning]
    settings: dict[str, Settings]
    gauge: Gauge
    outcome: dict[str, Any] = field(default_factory=dict)

    def gather(self) -> dict[str, Any]:
        """The outcome as it is now."""
        at_s = self.lab.now_s  # before anything is read: on a busy machine that takes time, and the tables are of now
        self.lab.sample()
        self.gauge.look()
        self.outcome |= {
            "left": {
                name: self._sockets(name)
                for name in self.gauge.series
                if sum(self.gauge.series[name][-1][1:]) <= _LISTED
            },
            "effective": {name: dict(tuning.effective) for name, tuning in self.tunings.items()},
            "counters": {name: moved for name, moved in self.lab.all_moved().items() if moved},
            "time_wait": self.lab.time_wait_samples,
            "sockets": {name: rows for name, rows in self.gauge.series.items() if len(rows) > 1},
            "conntrack": self.lab.conntrack_samples,
            "tables": self.lab.tables,
            "virtual_s": round(at_s, 6),
        }
        return self.outcome | self._told()

    def _sockets(self, name: str) -> list[dict[str, str]]:
        """The TCP sockets of a node, as the evidence has them."""
        found = self.lab.sockets(name)
        return [
            {"state": s.state, "local": f"{s.local}:{s.local_port}", "remote": f"{s.remote}:{s.remote_port}"}
            for s in found
        ]

    def retune(self, name: str, settings: Settings) -> None:
        """Put other settings into force on the node `name`, for what begins from now on.

        Raises:
            CapabilityError: the kernel cannot do what they ask; those before stay.
        """
        check(settings)
        self.tunings[name].__exit__()
        tuning = Tuning(self.lab.network[name], settings, self.lab.loop, self.lab.transcript)
        self.tunings[name] = self.lab.closing.enter_context(tuning)
        self.settings[name] = settings
        self.outcome["settings"][name] = settings.as_dict()

    def close(self) -> None:
        """Complete the outcome. Only now: a mechanism beside the lab tells how it did when it is
        stopped, and a capture what it lost.
        """
        self.outcome |= self._told()

    @property
    def fault(self) -> LabError | None:
        """Once the stage has been left: why what the lab has not seen is no evidence; None when it
        is.
        """
        return self.capture.fault or next((wire.fault for wire in self.lab.wires.values() if wire.fault), None)

    def _told(self) -> dict[str, Any]:
        return {
            "mechanisms": {name: dict(tuning.mechanisms) for name, tuning in self.tunings.items() if tuning.mechanisms},
            "transcript": [entry.as_dict() for entry in self.lab.transcript.entries],
            "captured": self.capture.written,
            "lost": self.capture.lost,
        }


@contextmanager
def staged(
    topology: Topology,
    settings: Mapping[str, Settings],
    capture: Path,
    *,
    seed: str,
    forced: Mapping[str, str] | None = None,
    listener: Callable[[Entry], object] | None = None,
    pulse: Callable[[Vitals], object] | None = None,
) -> Iterator[Stage]:
    """`topology`, built, with its settings in force, its wires ready and its traffic captured, for
    the block.

    Args:
        settings: of every node, by its name; known to be possible (`twlab.tuning.apply.check`).
        capture: the pcapng file.
        seed: for everything random.
        forced: setting to mechanism, where another than the kernel's own is wanted.
        listener: called with every transcript entry as it is made.
        pulse: called before that, and when a second has changed something, with how the lab does.

    Raises:
        CapabilityError: the kernel cannot do what the settings ask, or what the topology needs.
        EngineError: the lab does not see what it should (``blind-lab``, ``sent-not-seen``); on
            leaving, too, and then the outcome is complete.
    """
    with ExitStack() as stack:
        loop = Loop()
        stack.callback(loop.close)
        network = stack.enter_context(Network(topology))
        watched = [node for node in network.nodes.values() if node.role in ("wire", "gateway")]
        recorder = Capture(watched, capture, loop)

        told = Vitals(0.0, 0, 0)

        def tell() -> None:
            nonlocal told
            vitals = Vitals(round(loop.now_s, 3), recorder.seen, gauge.time_wait)
            if pulse and vitals[1:] != told[1:]:
                pulse(vitals)
            told = vitals

        def heard(entry: Entry) -> None:
            gauge.hear(entry)
            tell()
            if listener:
                listener(entry)

        gauge = Gauge((node for node in network.nodes.values() if node.role == "endpoint"), loop, tell)
        stack.enter_context(gauge)
        transcript = Transcript(lambda: loop.now_s, heard)
        tunings = {
            name: stack.enter_context(Tuning(node, settings[name], loop, transcript, forced))
            for name, node in network.nodes.items()
        }
        stack.enter_context(recorder)
        wires = {
            name: stack.enter_context(Wire(node, loop, transcript, recorder))
            for name, node in network.nodes.items()
            if node.role == "wire"
        }
        asked = dict(settings)
        lab = Lab(network, loop, transcript, wires, asked, random.Random(seed))
        stack.callback(lab.closing.close)
        stage = Stage(lab, recorder, tunings, asked, gauge)
        stage.outcome = {
            "kernel": " ".join(os.uname()[2:5]),
            "settings": {name: wanted.as_dict() for name, wanted in settings.items()},
            "capture": capture.name,
        }
        yield stage
        stage.gather()
        recorder.close()  # before anything is let go of: what that sends belongs to no arm
    stage.close()
    if stage.fault:
        raise stage.fault
