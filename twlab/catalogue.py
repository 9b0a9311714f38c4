"""Loads scenarios: those that come with twlab, and a user's own file."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
from collections.abc import Sequence
from pathlib import Path

from twlab import user_file
from twlab.errors import UsageError, did_you_mean
from twlab.overrides import Overrides
from twlab.scenario import Scenario


def load_scenarios() -> dict[str, Scenario]:
    """All scenarios that come with twlab, by name, in the order of their files."""
    package = importlib.import_module("twlab.scenarios")
    modules = [
        importlib.import_module(f"twlab.scenarios.{info.name}") for info in pkgutil.iter_modules(package.__path__)
    ]
    return {s.name: s for module in modules for s in _scenarios_in(module)}


def find_scenario(name: str) -> Scenario:
    """Return the scenario called `name`, or the one in the file of that path.

    A path is ``lab/mine.py`` for the first scenario of the file, or ``lab/mine.py:second-claim``.

    Raises:
        UsageError: there is no scenario of that name (``no-such-scenario``), or a file that holds no scenario
            (``broken-scenario-file``).
    """
    path, wanted = user_file.split(name)
    if path:
        found = _load_file(Path(path))
        if wanted and wanted not in found:
            near = did_you_mean(wanted, found)
            raise UsageError(
                f"{path} holds no scenario called {wanted!r}{near}", f"it holds: {', '.join(found)}", "no-such-scenario"
            )
        return found[wanted] if wanted else next(iter(found.values()))
    if own := _in_own_module(name):
        return own
    known = load_scenarios()
    if name not in known:
        near = did_you_mean(name.replace("_", "-"), known)
        raise UsageError(
            f"there is no scenario called {name!r}{near}", f"the scenarios are: {', '.join(known)}", "no-such-scenario"
        )
    return known[name]


def scenario_here(name: str) -> Scenario:
    """Return the scenario called `name` as the kernel that runs here carries it out.

    Raises as `find_scenario`.
    """
    return find_scenario(name).on(os.uname().release)


def _in_own_module(name: str) -> Scenario | None:
    """Return the scenario whose file bears its name, without loading the others.

    In a guest that takes a tenth of the time.
    """
    module = f"twlab.scenarios.{name.replace('-', '_')}"
    if not name.replace("-", "_").isidentifier() or not importlib.util.find_spec(module):
        return None
    return next((s for s in _scenarios_in(importlib.import_module(module)) if s.name == name), None)


def parse_overrides(source: str, pairs: Sequence[str]) -> Overrides:
    """Read ``KEY=VALUE`` texts for the scenario that `source` names.

    Raises as `find_scenario` and `twlab.overrides.Overrides.parse`.
    """
    return Overrides.parse(pairs, [find_scenario(source)])


def _load_file(path: Path) -> dict[str, Scenario]:
    found = {s.name: s for s in _scenarios_in(user_file.load(path, f"scenario_{path.stem}", "broken-scenario-file"))}
    if not found:
        raise UsageError(f"{path} holds no scenario", "decorate a function with @scenario(...)", "broken-scenario-file")
    return found


def _scenarios_in(module: object) -> list[Scenario]:
    return [value for value in vars(module).values() if isinstance(value, Scenario)]
