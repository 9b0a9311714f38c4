"""What sysctls are in the namespaces of one lab kernel: those of interfaces, world after world, and
those of a machine that was tuned. Runs in the lab kernel, see test_new_namespaces.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from twlab.lab.assembly import assemble_unrecorded
from twlab.linux import sysctl
from twlab.linux.syscalls import inside_network_namespace, new_network_namespace
from twlab.network import load_topology
from twlab.settings import Settings
from twlab.world import World, WorldName


def worlds_in_turn(names: list[WorldName]) -> dict[str, Any]:
    """Return the sysctls of a namespace as the kernel makes it, and for a lab in each world those of
    its nodes, and the names of those that were written.
    """
    with inside_network_namespace(new_network_namespace()):
        found: dict[str, Any] = {"new": _of_interfaces(), "labs": []}
    for name in names:
        topology = load_topology("nat")
        settings = dict.fromkeys(topology.nodes(), Settings())
        with _watched() as written, assemble_unrecorded(topology, settings, seed="1", world=World(name)) as lab:
            made = list(written)
            nodes = {}
            for node in lab.network:
                with node.inside():
                    nodes[node.name] = _of_interfaces()
        found["labs"].append({"written": made, "nodes": nodes})
    return found


def before_and_after(machine: dict[str, str]) -> list[dict[str, str | None]]:
    """Set the first namespace to `machine`, as far as this kernel has it; return what a namespace
    made before that has, the first one, and a namespace made after it.
    """
    machine = {name: value for name, value in machine.items() if sysctl.exists(name)}

    def read() -> dict[str, str | None]:
        return {name: " ".join((sysctl.read(name) or "").split()) or None for name in machine}

    def read_in_a_new_one() -> dict[str, str | None]:
        with inside_network_namespace(new_network_namespace()):
            return read()

    before = read_in_a_new_one()
    for name, value in machine.items():
        sysctl.write(name, value)
    return [before, read(), read_in_a_new_one()]


@contextmanager
def _watched() -> Iterator[list[str]]:
    """Yield the names of the sysctls that are written in the block."""
    written: list[str] = []
    write, write_back = sysctl.write, sysctl.write_back

    def watched_write(name: str, value: str) -> None:
        written.append(name)
        write(name, value)

    def watched_write_back(name: str, value: str) -> str:
        written.append(name)
        return write_back(name, value)

    sysctl.write, sysctl.write_back = watched_write, watched_write_back
    try:
        yield written
    finally:
        sysctl.write, sysctl.write_back = write, write_back


def _of_interfaces() -> dict[str, str | None]:
    files = [file for version in ("ipv4", "ipv6") for file in sorted(Path(f"/proc/sys/net/{version}/conf").glob("*/*"))]
    names = [".".join(file.parts[3:]) for file in files]
    return {name: sysctl.read(name) for name in names if not name.endswith("stable_secret")}
