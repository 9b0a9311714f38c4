"""The inner half of the pytest plugin: makes one test's labs in the engine."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from twlab.errors import LabError, UsageError
from twlab.lab.assembly import assemble
from twlab.lab.lab import Lab
from twlab.network import Topology, load_topology
from twlab.observation import Observation
from twlab.pytest_plugin.naming import word
from twlab.results.evidence import ArmEvidence
from twlab.run.provenance import kernel
from twlab.settings import Settings
from twlab.world import PINNED, World


class Inside:
    """Makes the labs of one test, and reports each when it ends."""

    def __init__(self, folder: Path, seed: int, emit: Callable[[dict[str, Any]], None], world: World = PINNED):
        self._folder = folder
        self._seed = seed
        self._world = world
        self._emit = emit
        self._names: set[str] = set()

    def labs(self, test: pytest.Item, stack: ExitStack) -> Callable[..., Lab]:
        """Return the function of the fixture `make_lab`. Its labs end with `stack`."""

        def make(
            topology: str | Topology = "pair",
            settings: Settings | None = None,
            *,
            on: Mapping[str, Settings] | None = None,
            name: str = "",
            expect: Observation | None = None,
        ) -> Lab:
            wanted = self._lab(
                topology, settings or Settings(), on or {}, self._name(name or "lab"), expect or Observation()
            )
            try:
                return stack.enter_context(wanted)
            except LabError as error:
                pytest.fail(str(error), pytrace=False)

        return make

    @contextmanager
    def _lab(
        self, topology: str | Topology, base: Settings, on: Mapping[str, Settings], name: str, expect: Observation
    ) -> Iterator[Lab]:
        made = load_topology(topology) if isinstance(topology, str) else topology
        if unknown := sorted(set(on) - set(made.nodes())):
            raise UsageError(
                f"the arm sets {unknown[0]!r}, which the topology does not have",
                f"its nodes are: {', '.join(made.nodes())}",
                "no-such-node",
            )
        settings = {node: on[node].over(base) if node in on else base for node in made.nodes()}
        evidence: ArmEvidence | None = None
        try:
            capture, seed = self._folder / f"{name}.pcapng", f"{self._seed} {name}"
            with assemble(made, settings, capture, seed=seed, world=self._world) as running:
                evidence = running.evidence
                yield running.lab
        finally:
            if evidence:
                self._emit(
                    {
                        "event": "arm",
                        "name": name,
                        "kernel": kernel(),
                        "result": evidence.as_dict(),
                        "predicted": expect.on(platform.release()).as_dict(),
                        "topology": topology if isinstance(topology, str) else "",
                    }
                )

    def _name(self, wanted: str) -> str:
        name = word(wanted)
        number = 1
        while name in self._names:
            number += 1
            name = f"{word(wanted)}-{number}"
        self._names.add(name)
        return name
