"""The record of one run: everything needed to judge it, and to repeat it later.

`result.json` is all that running hands to showing. A reader of it needs no root, no kernel and no
network. What depends on the wall clock stands under ``wall`` and nowhere else, so two runs of one
seed can be compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from twlab.errors import UsageError
from twlab.observation import plain
from twlab.results import filetypes
from twlab.results.evidence import ArmEvidence
from twlab.results.files import cannot_write, replacing
from twlab.scenario import Verdict, judge
from twlab.world import PINNED, words

SCHEMA = 1
_EXAMPLE, _AGAIN = "a folder that twlab run has made, e.g. runs/...", "run the scenario again"
FILE = "result.json"


@dataclass
class ArmPrediction:
    """The prediction of an arm.

    Attributes:
        role: ``control``, ``treatment`` or ``remedy``.
        predicted: fact to value, or to ``{"low", "high"}``.
        unpredicted: the arguments and settings, name to value, with which the arm has no
            prediction; ``predicted`` is empty then.
    """

    role: str
    predicted: dict[str, Any] = field(default_factory=dict)
    unpredicted: dict[str, Any] = field(default_factory=dict)


@dataclass
class ArmResult(ArmEvidence, ArmPrediction):
    """The prediction of an arm, and its evidence."""

    @classmethod
    def of(cls, prediction: ArmPrediction, evidence: ArmEvidence) -> ArmResult:
        """Put the two together."""
        known = {spec.name: getattr(prediction, spec.name) for spec in fields(ArmPrediction)}
        return cls(**known, **evidence.as_dict())

    @cached_property
    def encoded(self) -> str:
        """Its JSON text when it was first asked for, indented as in the file."""
        return json.dumps(self.as_dict(), indent=1).replace("\n", "\n  ")

    @property
    def outcome(self) -> str:
        """The outcome of the arm, in a few words."""
        if self.ok is None and self.no_prediction and not self.error:
            return self.no_prediction
        words = {True: "as predicted", False: "not as predicted", None: "could not be carried out"}[self.ok]
        return f"{words}, in run {len(self.repeated) + 1} of it on a busy machine" if self.repeated else words

    def remarks(self) -> dict[str, Any]:
        """Return why the arm has no verdict: ``error``, ``unpredicted``, or neither."""
        return {name: value for name in ("error", "unpredicted") if (value := getattr(self, name))}

    @property
    def no_prediction(self) -> str:
        """``no prediction for this size (clients=9)``; empty where there is one."""
        changed = ", ".join(f"{name}={plain(value)}" for name, value in self.unpredicted.items())
        return f"no prediction for this size ({changed})" if changed else ""


@dataclass
class Result:
    """One scenario, run on one engine.

    Attributes:
        kernel: release, version and machine of the kernel that TCP ran on; empty until an arm has
            been carried out.
        command: the command line that repeats the run.
        world: the sysctls that arms started from, one of `twlab.world.WORLDS`.
        not_carried: in the world ``machine``: sysctl to why it was not carried over.
        network: the topology, as the control has it: ``nodes``, name to role, and ``links``, pairs
            of names; empty where it could not be made.
        wall: what depends on the wall clock: ``started``, ``took_s``, and ``arms`` to seconds.
    """

    scenario: str
    hypothesis: str
    reads: str
    topology: str
    engine: str
    seed: int
    command: str
    kernel: str = ""
    world: str = PINNED.name
    not_carried: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    network: dict[str, Any] = field(default_factory=dict)
    arms: dict[str, ArmResult] = field(default_factory=dict)
    wall: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def verdict(self) -> Verdict:
        return judge(
            {name: arm.role for name, arm in self.arms.items()}, {name: arm.ok for name, arm in self.arms.items()}
        )

    @property
    def ground(self) -> str:
        """``guest engine, Linux 7.3.4-twlab``, and its sysctls where they are not pinned."""
        kernel = f"Linux {self.kernel.split()[0]}" if self.kernel else "no kernel was booted"
        return ", ".join(filter(None, [f"{self.engine} engine", kernel, words(self.world)]))

    @property
    def is_session(self) -> bool:
        """Whether it is a session of the shell, which claims nothing and has no verdict."""
        return bool(self.arms) and all(arm.role == "session" for arm in self.arms.values())

    def as_dict(self) -> dict[str, Any]:
        values = {spec.name: getattr(self, spec.name) for spec in fields(self)}
        values["arms"] = {name: arm.as_dict() for name, arm in self.arms.items()}
        return {
            "schema": values.pop("schema"),
            "scenario": values.pop("scenario"),
            "verdict": str(self.verdict),
            **values,
        }

    def summary(self, folder: Path) -> dict[str, Any]:
        """Return the run's element in the list that ``twlab run --json`` prints."""
        return {
            "schema": self.schema,
            "scenario": self.scenario,
            "verdict": str(self.verdict),
            "engine": self.engine,
            "kernel": self.kernel,
            "world": self.world,
            "arms": {
                name: {"predicted": arm.predicted, "observed": arm.observed, "ok": arm.ok, **arm.remarks()}
                for name, arm in self.arms.items()
            },
            "run": str(folder),
        }

    def shown(self, folder: Path, arms: Iterable[str]) -> dict[str, Any]:
        """Return the object that ``twlab show --json`` prints.

        It is the summary, with the evidence of each of `arms`.
        """
        values = self.summary(folder) | {
            "hypothesis": self.hypothesis,
            "topology": self.topology,
            "command": self.command,
        }
        values["arms"] = {name: {**values["arms"][name], **self._evidence(folder, name)} for name in arms}
        return values

    def _evidence(self, folder: Path, name: str) -> dict[str, Any]:
        arm = self.arms[name]
        return {
            "role": arm.role,
            "settings": arm.settings,
            "given": arm.given,
            "mismatches": arm.mismatches,
            "transcript": arm.transcript,
            "tables": arm.tables,
            "virtual_s": arm.virtual_s,
            "capture": str(folder / arm.capture) if arm.capture else "",
        }

    def write(self, folder: Path, *, arms_are_final: bool = False) -> None:
        """Put ``result.json`` into `folder`, whole or not at all.

        Args:
            arms_are_final: what stands in `arms` may be replaced, and does not change. A run is
                written after each arm, and encodes each arm once.

        Raises:
            CapabilityError: it cannot be written (``cannot-write``); a result written before stays
                as it was.
        """
        try:
            with replacing(folder / FILE) as file:
                file.write((self._text(arms_are_final) + "\n").encode())
        except OSError as error:
            raise cannot_write(folder, error) from error

    def _text(self, arms_are_final: bool) -> str:
        if not arms_are_final or not self.arms:
            return json.dumps(self.as_dict(), indent=1)
        around = json.dumps({**self.as_dict(), "arms": {}}, indent=1)
        arms = ",\n".join(f"  {json.dumps(name)}: {arm.encoded}" for name, arm in self.arms.items())
        before, key, after = around.partition('\n "arms": {')  # no text in JSON has a line's end
        return f"{before}{key}\n{arms}\n {after}"


def read_result(path: Path) -> Result:
    """Read the result in the folder `path`, or in the file of that name.

    Raises:
        UsageError: there is no result (``no-result``); it is cut short or a field has a wrong
            type (``broken-result``); it is another kind of file (``foreign-result``), and the
            message says what reads it; or a newer twlab wrote it (``newer-result``).
    """
    file = path / FILE if path.is_dir() else path
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"there is no result at {path}: {error.strerror}", f"name {_EXAMPLE}", "no-result") from error
    except (ValueError, RecursionError) as error:
        raise filetypes.foreign(file) or UsageError(
            f"{file} is cut short or is no JSON: {error}", _AGAIN, "broken-result"
        ) from error
    schema = values.get("schema") if isinstance(values, dict) else None
    study = isinstance(values, dict) and "arms" not in values and bool({"cells", "rows"} & values.keys())
    if study or isinstance(schema, bool) or not isinstance(schema, int) or "scenario" not in values:
        raise filetypes.foreign_json(file, values)
    if schema > SCHEMA:
        raise UsageError(
            f"{file} has schema {schema}; this twlab reads up to {SCHEMA}", "read it with a newer twlab", "newer-result"
        )
    try:
        values.pop("verdict")
        arms = {name: ArmResult(**_known(ArmResult, arm)) for name, arm in values.pop("arms").items()}
        result = Result(**{**_known(Result, values), "arms": arms})
    except (KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{file} lacks what a result has: {error}", _AGAIN, "broken-result") from error
    for where, record in ({"": result} | {f"arm {name}: ": arm for name, arm in arms.items()}).items():
        if wrong := filetypes.wrong_field(record):
            raise UsageError(f"{file} is damaged: {where}{wrong}", _AGAIN, "broken-result")
    return result


def _known(kind: type[Result | ArmResult], values: dict[str, Any]) -> dict[str, Any]:
    """Return those of `values` that `kind` has; a newer twlab may have added others."""
    return {spec.name: values[spec.name] for spec in fields(kind) if spec.name in values}
