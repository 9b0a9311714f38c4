"""The world that arms start from: the sysctls of a node before its arm's settings.

``pinned`` is the baseline (`twlab.tuning.baseline`), which is alike everywhere. ``kernel`` is what
the kernel that runs the lab gives a new network namespace. ``machine`` is what this machine has
set, as far as another kernel takes it (`twlab.tuning.machine`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from twlab.errors import UsageError, did_you_mean

WorldName = Literal["pinned", "kernel", "machine"]
WORLDS: tuple[WorldName, ...] = get_args(WorldName)
_WORDS = {"pinned": "", "kernel": "the kernel's own defaults", "machine": "this machine's sysctls"}


@dataclass(frozen=True)
class World:
    """The sysctls that nodes start from.

    Attributes:
        name: which of `WORLDS`.
        values: of ``machine``: sysctl to value. A ``*`` stands for every interface; a plain name
            goes before it.
        left: of ``machine``: sysctl to why its value could not be carried over.
    """

    name: WorldName = "pinned"
    values: Mapping[str, str] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values, as they travel in a request's key ``world``."""
        return {"name": self.name, "values": dict(self.values), "left": dict(self.left)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> World:
        """Read what `as_dict` returned; nothing means the pinned world."""
        return cls(**values)


PINNED = World()


def check_world(name: str) -> WorldName:
    """Return the world called `name`.

    Raises:
        UsageError: there is no such world (``no-such-world``).
    """
    for world in WORLDS:
        if name == world:
            return world
    message = f"--defaults {name} is not possible{did_you_mean(name, WORLDS)}"
    raise UsageError(message, f"it takes one of: {', '.join(WORLDS)}", "no-such-world")


def words(name: str) -> str:
    """Name the world in a few words; empty for the pinned one, which needs no mention."""
    return _WORDS.get(name, name)
