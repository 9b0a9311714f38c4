"""Experiments on TCP's TIME_WAIT, on real Linux TCP stacks.

The names in this package are the whole public interface. Importing it needs no root, and loads
none of mininet, scapy and pyroute2.

`run`, `open`, `sweep`, `plan` and `observe` do in Python what the commands do, and give objects
that show themselves in a notebook; see `twlab.notebook.functions`. They are loaded when used, and
``from twlab import *`` leaves them out: `open` is one of them. `Lab`, too, is loaded when used: it
needs ctypes, which `twlab.commands.streams` has to come before.
"""

import typing

from twlab.errors import CapabilityError, EngineError, LabError, ScenarioError, UsageError
from twlab.observation import Observation, about, at_least, at_most, between, since
from twlab.scenario import Arm, Scenario, Verdict, scenario
from twlab.segment import match
from twlab.settings import Settings

if typing.TYPE_CHECKING:
    from twlab.lab.lab import Lab

__version__ = "0.1.0"
__all__ = [
    "Arm",
    "CapabilityError",
    "EngineError",
    "Lab",
    "LabError",
    "Observation",
    "Scenario",
    "ScenarioError",
    "Settings",
    "UsageError",
    "Verdict",
    "about",
    "at_least",
    "at_most",
    "between",
    "match",
    "scenario",
    "since",
]
_FUNCTIONS = ("observe", "open", "plan", "run", "sweep")


def __getattr__(name: str) -> object:
    """Load `Lab`, or a function of `twlab.notebook.functions`, when it is used."""
    if name == "Lab":
        from twlab.lab.lab import Lab

        return Lab
    if name in _FUNCTIONS:
        from twlab.notebook import functions

        return getattr(functions, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Name what is loaded when used, too, so that a misspelt name is found near it."""
    return sorted({*globals(), *__all__})
