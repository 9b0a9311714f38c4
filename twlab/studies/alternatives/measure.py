"""Measures the table of alternatives, and keeps each result as it comes."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from twlab.catalogue import load_scenarios
from twlab.errors import LabError, UsageError, did_you_mean
from twlab.results import files
from twlab.studies import batch, driver
from twlab.studies.alternatives.page import page
from twlab.studies.alternatives.table import (
    ALTERNATIVES,
    FEW_PORTS,
    MEASURED,
    Alternative,
    ArmRun,
    as_csv,
    runs,
    summary,
)
from twlab.studies.batch import ArmOutcome, ArmRequest
from twlab.studies.progress import Progress

_LEAST_PORTS = 100
_LONG_PORTS = 2000  # from here on a measurement takes so long that it has a boot for itself
OnRun = Callable[[ArmRun, ArmOutcome], None]


def chosen(names: Sequence[str]) -> list[Alternative]:
    """Return the rows called `names`; all, if there are no names.

    Raises:
        UsageError: there is no such row (``no-such-alternative``).
    """
    known = {alternative.arm: alternative for alternative in ALTERNATIVES}
    if unknown := [name for name in names if name not in known]:
        near = did_you_mean(unknown[0], known)
        message = f"there is no alternative called {unknown[0]!r}{near}"
        raise UsageError(message, f"they are: {', '.join(known)}", "no-such-alternative")
    return [known[name] for name in names] or list(ALTERNATIVES)


def check_ports(low: int, high: int) -> None:
    """Check that the rows can be measured with these ports.

    Raises:
        UsageError: there are too few (``bad-setting``).
    """
    if high - low + 1 < _LEAST_PORTS:
        message = f"--ports {low}-{high} are too few: a rate is found to 2 % of at least {_LEAST_PORTS} ports"
        raise UsageError(message, f"e.g. --ports {low}-{low + _LEAST_PORTS - 1}", "bad-setting")


class AlternativesTable:
    """The runs behind the rows `wanted`, in a folder.

    Args:
        folder: for ``alternatives.json``, ``.csv`` and ``.md``.
        judged: also run the catalogue under each row.
        seed: for everything random.
        command: by which the table was asked for.
        kernel: release of the lab kernel, where it is known beforehand; otherwise empty.
        ports: the first and the last, with which the rates are measured.

    Attributes:
        runs: all that have to be done.
        progress: the file that an interrupted measurement goes on from.
    """

    def __init__(
        self,
        folder: Path,
        wanted: Sequence[Alternative],
        *,
        judged: bool,
        seed: int,
        command: str,
        kernel: str = "",
        ports: tuple[int, int] = FEW_PORTS,
    ):
        catalogue = load_scenarios()
        self._folder = folder
        self._wanted = wanted
        self._seed = seed
        self._command = command
        self._ports = ports[1] - ports[0] + 1
        self._long = len(wanted) if self._ports >= _LONG_PORTS else 0
        self.runs = runs(catalogue, wanted, judged=judged, ports=ports)
        own = str(Path(sys.modules["twlab.studies.alternatives.scenario"].__file__ or ""))
        self._arms: list[ArmRequest] = [
            (own if run.under is None else run.scenario, run.arm, list(run.sets)) for run in self.runs
        ]
        names = sorted({run.scenario for run in self.runs if run.under})
        digests = [MEASURED.digest, *(catalogue[name].digest for name in names)]
        listed = [[run.scenario, run.arm, list(run.sets)] for run in self.runs]
        identity = {"study": "alternatives", "seed": seed, "runs": _digest(listed), "scenarios": _digest(digests)}
        self.progress = Progress(folder, identity, kernel)
        self.progress.resume()
        self.progress.done = {n: self.progress.done[n] for n in sorted(self.kept())}

    def kept(self) -> set[int]:
        """Return the numbers of the runs to keep: those of whole parts."""
        return batch.whole(len(self.runs), self.progress.done, self._long)

    def measure(self, *, kernels: int, on_run: OnRun, scheduler: str = "") -> str:
        """Do the runs that are missing, and write the three files; returns the JSON text.

        A run that its engine did not survive is in the table with its error, and is done again when
        the same
        command is given.

        Args:
            kernels: boots side by side.
            on_run: called after each run.
            scheduler: of a Dask cluster, see `twlab.engines.pool.answers`.

        Raises:
            CapabilityError: the files cannot be written (``cannot-write``).
        """
        done: dict[int, ArmOutcome] = dict(self.progress.done)
        spared = self.kept()
        for number, outcome in batch.run(
            self._arms, seed=self._seed, kernels=kernels, scheduler=scheduler, done=spared, long=self._long
        ):
            if self.runs[number].under is None and (outcome["error"] or {}).get("slug") == "no-such-sysctl":
                outcome = self._on_this_machine(number) or outcome
            done[number] = outcome
            if (outcome["error"] or {}).get("kind") not in ("EngineError", "CapabilityError"):
                self.progress.record(number, outcome)
            on_run(self.runs[number], outcome)
        return self._conclude(done)

    def _conclude(self, done: dict[int, ArmOutcome]) -> str:
        ordered = [(self.runs[number], done[number]) for number in sorted(done)]
        made = summary(ordered, self._wanted, command=self._command, seed=self._seed, ports=self._ports)
        text = json.dumps(made, indent=1) + "\n"
        written = {"json": text, "csv": as_csv(made["rows"]), "md": page(made)}
        files.write_all({self._folder / f"alternatives.{suffix}": content for suffix, content in written.items()})
        if len(self.progress.done) == len(self.runs):
            self.progress.finish()
        return text

    def _on_this_machine(self, number: int) -> ArmOutcome:
        """Return this machine's outcome, for a sysctl that the lab kernel lacks.

        Empty if this machine's kernel lacks it, too.
        """
        outcomes: list[ArmOutcome] = []
        try:
            driver.carry_out(batch.task([self._arms[number]], self._seed, "host"), outcomes.append)
        except LabError:
            return {}
        return outcomes[0] if outcomes and outcomes[0].get("observed") else {}


def _digest(values: Iterable[Any]) -> str:
    return hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()
