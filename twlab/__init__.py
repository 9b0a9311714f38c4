"""Experiments on TCP's TIME_WAIT, on real Linux TCP stacks.

The names in this package are the whole public interface. Importing it needs no root, and loads
none of mininet, scapy and pyroute2.
"""

from twlab.errors import CapabilityError, EngineError, LabError, ScenarioError, UsageError
from twlab.lab.lab import Lab
from twlab.observation import Observation, about, at_least, at_most, between, since
from twlab.scenario import Arm, Scenario, Verdict, scenario
from twlab.segment import match
from twlab.settings import Settings

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
