"""The changes of ``--set``: parsed and checked, and carried as values."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from twlab.errors import UsageError, did_you_mean
from twlab.numerals import real, whole
from twlab.settings import Settings, no_such_setting, parse_setting, setting_names


class Steps(Protocol):
    """What overrides need of a scenario: its arguments, with their defaults."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Argument to default."""


_TRUTH = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}


@dataclass(frozen=True)
class Overrides:
    """Settings, and arguments of the steps, that replace those of an arm.

    Attributes:
        settings: of every node.
        given: arguments of the steps.
        on: of single nodes, over `settings`, by node name: from ``NODE:KEY=VALUE``.
    """

    settings: Settings = field(default_factory=Settings)
    given: Mapping[str, Any] = field(default_factory=dict)
    on: Mapping[str, Settings] = field(default_factory=dict)

    def at(self, node: str) -> Settings:
        """Return the settings that replace those of `node`."""
        return self.on[node].over(self.settings) if node in self.on else self.settings

    def for_arm(self, role: str, named: Collection[str]) -> Overrides:
        """Return what applies to an arm: nothing to the control, unless it is named.

        A control that was changed controls nothing.

        Args:
            role: of the arm.
            named: the names and roles that ``--arm`` gives.
        """
        return Overrides() if role == "control" and "control" not in named else self

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values, as they travel in a job's key ``set``."""
        return {
            "settings": self.settings.as_dict(),
            "given": dict(self.given),
            "on": {node: settings.as_dict() for node, settings in self.on.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Overrides:
        """Read what `as_dict` returned; a key that is missing changes nothing."""
        on = {node: Settings(**settings) for node, settings in values.get("on", {}).items()}
        return cls(Settings(**values.get("settings", {})), dict(values.get("given", {})), on)

    @classmethod
    def parse(cls, pairs: Sequence[str], scenarios: Sequence[Steps]) -> Overrides:
        """Read ``KEY=VALUE`` and ``NODE:KEY=VALUE`` texts.

        An argument must be one that every scenario takes, and has the type of its default.

        Raises:
            UsageError: not of that form (``bad-setting``), no such setting (``no-such-setting``),
                or a value that it cannot have (``bad-setting``).
        """
        settings: dict[str, Any] = {}
        given: dict[str, Any] = {}
        on: dict[str, dict[str, Any]] = {}
        for pair in pairs:
            key, sign, text = pair.partition("=")
            if not sign or not key or key.startswith(":"):
                message = f"--set {pair} is not of the form KEY=VALUE"
                raise UsageError(message, "for example: --set time_wait_s=10", "bad-setting")
            node, colon, name = key.partition(":")
            defaults = [s.parameters[key] for s in scenarios if key in s.parameters]
            if colon:
                on.setdefault(node, {})[name] = parse_setting(name, text)
            elif key in setting_names():
                settings[key] = parse_setting(key, text)
            elif defaults and len(defaults) == len(scenarios):
                given[key] = _parse_like(key, text, defaults[0])
            else:
                raise no_such_setting(key, [name for s in scenarios for name in s.parameters])
        return cls(Settings(**settings), given, {node: Settings(**values) for node, values in on.items()})

    def check_nodes(self, names: Sequence[str], topology: str) -> None:
        """Check that every node in `on` is one of `names`, those of `topology`.

        Raises:
            UsageError: one is not (``no-such-node``).
        """
        if unknown := sorted(set(self.on) - set(names)):
            guess = did_you_mean(unknown[0], names)
            message = f"--set names the node {unknown[0]!r}, which {topology} does not have{guess}"
            raise UsageError(message, f"its nodes are: {', '.join(names)}", "no-such-node")


def _parse_like(key: str, text: str, default: Any) -> Any:
    """Return the value that `text` means for an argument whose default is `default`."""
    try:
        if isinstance(default, bool):
            return _TRUTH[text.lower()]
        read: Callable[[str], Any] = {int: whole, float: real}.get(type(default), type(default))
        return read(text)
    except (KeyError, ValueError):
        message = f"{key}={text} is out of range: expected a value like {default!r}"
        raise UsageError(message, f"for example: --set {key}={default}", "bad-setting") from None
