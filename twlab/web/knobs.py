"""The knobs of a scenario's page, made of the settings themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, get_args, get_type_hints

from twlab.errors import UsageError
from twlab.scenario import Scenario
from twlab.settings import Settings

_SLIDES = {"time_wait_s": 65.0, "fin_timeout_s": 65.0, "nat_time_wait_s": 130.0, "nat_close_s": 30.0, "delay_s": 65.0}
_TIMES = 10  # the arguments of steps have no bounds of their own: up to so many times their default
_LEAST = 10  # ... and at least up to this
_UNITS = {"_s": "s", "_ms": "ms", "_bytes": "bytes"}
_LONGEST = 24  # characters of a value


@dataclass(frozen=True)
class Knob:
    """One setting, or one argument of the steps, to be turned.

    Attributes:
        key: as ``--set`` takes it: ``time_wait_s`` or ``proxy:tw_reuse``.
        kind: ``number``, ``whole`` or ``switch``.
        meaning: in one line.
        low, high: bounds of a number.
        slides_to: where its slider ends; 0: it has none.
        unit: of a number, or "".
    """

    key: str
    kind: str
    meaning: str
    low: float = 0
    high: float = 0
    slides_to: float = 0
    unit: str = ""

    @property
    def name(self) -> str:
        """The key in words, without its unit."""
        node, _, key = self.key.rpartition(":")
        plain = key.removesuffix(next((end for end in _UNITS if key.endswith(end)), "")).replace("_", " ")
        return f"{plain} ({node})" if node else plain

    @property
    def step(self) -> str:
        return "1" if self.kind == "whole" else "any"


def of(scenario: Scenario) -> list[Knob]:
    """Return the knobs of what its arms set, and of its steps' arguments."""
    shared: set[str] = {"time_wait_s"}
    single: dict[str, set[str]] = {}
    for arm in scenario.arms.values():
        shared |= set(arm.settings.over(scenario.base).as_dict())
        for node, settings in arm.on.items():
            single.setdefault(node, set()).update(settings.as_dict())
    found = [_of_setting(spec.name, spec.metadata) for spec in fields(Settings) if spec.name in shared]
    for node, names in single.items():
        found += [_of_setting(spec.name, spec.metadata, f"{node}:") for spec in fields(Settings) if spec.name in names]
    found += [_of_argument(name, value) for name, value in scenario.parameters.items()]
    return [knob for knob in found if knob is not None]


def pairs(scenario: Scenario, form: Mapping[str, str]) -> tuple[str, ...]:
    """Return the ``KEY=VALUE`` texts of a form, sorted.

    They are its fields ``set.KEY``; blank ones are left out.

    Raises:
        UsageError: no such knob (``no-such-setting``), or a value out of its bounds
            (``bad-setting``).
    """
    known = {knob.key: knob for knob in of(scenario)}
    found = []
    for field, text in form.items():
        key, value = field.removeprefix("set."), text.strip()
        if not field.startswith("set.") or not value:
            continue
        if key not in known:
            raise UsageError(
                f"{scenario.name} has no knob called {key[:40]!r}", "take one of its page", "no-such-setting"
            )
        found.append(f"{key}={_checked(known[key], value)}")
    return tuple(sorted(found))


def _checked(knob: Knob, text: str) -> str:
    """Return the value in the one form that it has in a key."""
    try:
        if knob.kind == "switch":
            if text not in ("on", "off"):
                raise ValueError
            return text
        value = float(text) if len(text) <= _LONGEST else float("nan")
        if not knob.low <= value <= knob.high or (knob.kind == "whole" and value != int(value)):
            raise ValueError
    except ValueError:
        wanted = "on or off" if knob.kind == "switch" else f"a number from {knob.low:g} to {knob.high:g}"
        message = f"{knob.name}: {text[:_LONGEST]} is out of range: expected {wanted}"
        raise UsageError(message, f"{knob.name} is: {knob.meaning}", "bad-setting") from None
    return str(int(value)) if value == int(value) else repr(value)


def _of_setting(name: str, about: Mapping[str, Any], node: str = "") -> Knob | None:
    kind = get_args(get_type_hints(Settings)[name])[0]
    if kind is str:
        return None
    if kind is bool:
        return Knob(node + name, "switch", about["doc"])
    return Knob(
        node + name,
        "whole" if kind is int else "number",
        about["doc"],
        about["low"],
        about["high"],
        _SLIDES.get(name, about["high"] if about["high"] <= 10 else 0),
        _unit(name),
    )


def _of_argument(name: str, default: Any) -> Knob | None:
    meaning = f"of the steps; as it comes {default}"
    if name == "family":
        return None  # an arm of its own
    if isinstance(default, bool):
        return Knob(name, "switch", meaning.replace("True", "on").replace("False", "off"))
    if isinstance(default, int | float):
        high = max(_LEAST, _TIMES * abs(default)) if default else _LEAST
        high = 100.0 if name == "delay_s" else high
        return Knob(
            name, "whole" if isinstance(default, int) else "number", meaning, 0, high, _SLIDES.get(name, 0), _unit(name)
        )
    return None


def _unit(name: str) -> str:
    return next((unit for end, unit in _UNITS.items() if name.endswith(end)), "")
