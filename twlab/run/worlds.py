"""Finds the world that an order names, outside the engine: this machine is here."""

from __future__ import annotations

from twlab.world import PINNED, World, check_world


def find_world(name: str) -> World:
    """Return the world called `name`.

    Raises:
        UsageError: there is no such world (``no-such-world``).
    """
    found = check_world(name)
    if found == "machine":
        from twlab.tuning.machine import read_machine

        return read_machine()
    return World(found) if found != PINNED.name else PINNED
