"""The evidence of one arm: its observation, and what the lab recorded."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass
class ArmOutcome:
    """The observation of an arm, and how it compares with the prediction.

    Attributes:
        observed: fact to value; empty when the arm could not be carried out.
        ok: whether the prediction held; None when the arm could not be carried out, or had no
            prediction.
        mismatches: the facts that differ, in words.
        error: ``{"slug", "message", "remedy", "kind"}`` when the arm could not be carried out.
    """

    observed: dict[str, Any] = field(default_factory=dict)
    ok: bool | None = None
    mismatches: list[str] = field(default_factory=list)
    error: dict[str, str] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return its fields as JSON values, not copied."""
        return {spec.name: getattr(self, spec.name) for spec in fields(self)}


@dataclass
class ArmEvidence(ArmOutcome):
    """The outcome of an arm, and what the lab recorded meanwhile.

    All values are JSON values.

    Attributes:
        network: ``topology``, ``nodes`` and ``links``, as `twlab.results.result.Result.network`,
            where they are not those of the run; else empty.
        settings: what was asked, node to setting to value.
        effective: sysctls as they were read back, node to sysctl to value.
        mechanisms: node to setting to how it was applied, where there is more than one way.
        given: arguments of the steps.
        transcript: entries, see `twlab.results.transcript`.
        counters: node to kernel counter to how far it moved.
        time_wait: the TIME_WAIT table over time, at each step and at the end: ``{"at_s", "node",
            "count", "sockets": [...]}``.
        sockets: TCP sockets over time, see `twlab.lab.socket_counts.SocketCounts.series`; nodes on
            which nothing changed are left out.
        left: node to the TCP sockets that it has at the end, ``{"state", "local", "remote"}``,
            addresses with ports; nodes with more than 200 are left out.
        conntrack: what each gateway tracks, at the same times: ``{"at_s", "node", "count",
            "states": {state: count}, "entries": [...]}``.
        tables: what the steps put into tables: title to rows, ``{column: value}``; see
            `twlab.lab.lab.Lab.row`.
        capture: name of the pcapng file beside the result; ``captured`` and ``lost`` count its
            packets.
        virtual_s: seconds that passed in the lab.
        repeated: runs of the arm before this one that a busy machine may have disturbed
            (`twlab.lab.undisturbed`): ``{"waited_s", "observed", "mismatches", "error"}``.
    """

    network: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    effective: dict[str, dict[str, Any]] = field(default_factory=dict)
    mechanisms: dict[str, dict[str, str]] = field(default_factory=dict)
    given: dict[str, Any] = field(default_factory=dict)
    transcript: list[dict[str, Any]] = field(default_factory=list)
    counters: dict[str, dict[str, int]] = field(default_factory=dict)
    time_wait: list[dict[str, Any]] = field(default_factory=list)
    sockets: dict[str, list[list[float]]] = field(default_factory=dict)
    left: dict[str, list[dict[str, str]]] = field(default_factory=dict)
    conntrack: list[dict[str, Any]] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    capture: str = ""
    captured: int = 0
    lost: int = 0
    virtual_s: float = 0.0
    repeated: list[dict[str, Any]] = field(default_factory=list)

    def record(self, outcome: ArmOutcome) -> None:
        """Take over what the steps showed."""
        for name, value in outcome.as_dict().items():
            setattr(self, name, value)
