"""What new namespaces begin with: in the lab kernel the pinned world's values of each interface, on
the host engine a table of sockets of their own; in the pinned world alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from in_guest import run_in_guest
from new_namespaces_cases import worlds_in_turn

from twlab.lab.assembly import assemble_unrecorded
from twlab.linux import sysctl
from twlab.network import load_topology
from twlab.settings import Settings
from twlab.tuning import new_namespaces
from twlab.tuning.baseline import BASELINE
from twlab.world import PINNED, World

PINS = {pin.sysctl: pin for pin in BASELINE if "*" in pin.sysctl}
# The kernel gives every namespace a default of its own (net/ipv6/addrconf.c, addrconf_init_net).
NOT_INHERITED = {"net.ipv6.conf.*.autoconf"}


@pytest.mark.guest
def test_a_namespace_begins_with_what_its_world_has(tmp_path: Path) -> None:
    """In one boot: in the pinned world each interface has what the baseline says, and only what
    cannot be inherited is written; the kernel's own world is that of a boot without a pinned lab.
    """
    found = run_in_guest(worlds_in_turn, ["kernel", "pinned", "pinned", "kernel"], folder=tmp_path)
    before, pinned, again, after = found["labs"]
    assert before["nodes"] == after["nodes"]
    common = {name: value for name, value in found["new"].items() if name.split(".")[3] in ("all", "default", "lo")}
    assert len(common) > 200
    client = before["nodes"]["client"]
    built_with = {"net.ipv6.conf.default.addr_gen_mode"}  # see `Node.configure`
    assert {name for name, value in common.items() if client[name] != value} == built_with
    assert pinned["nodes"] == again["nodes"]
    for node, values in pinned["nodes"].items():
        of_pins = {name: value for name, value in values.items() if _pin(name) in PINS}
        assert len(of_pins) >= 4 * len(PINS), node  # all, default, lo, and a link
        assert {name: value for name, value in of_pins.items() if value != PINS[_pin(name)].value} == {}, node
    of_links = {_pin(name) for name in again["written"] if ".conf." in name and ".lo." not in name} & PINS.keys()
    assert of_links == NOT_INHERITED


def _pin(name: str) -> str:
    """Return the name under which the baseline has the sysctl of an interface."""
    words = name.split(".")
    return ".".join([*words[:3], "*", words[-1]])


def tables_in_turn() -> list[dict[str, str | None]]:
    found = []
    for world in PINNED, World("kernel"), PINNED:
        topology = load_topology("pair")
        with assemble_unrecorded(topology, dict.fromkeys(topology.nodes(), Settings()), seed="1", world=world) as lab:
            found.append({node.name: node.read_sysctl("net.ipv4.tcp_ehash_entries") for node in lab.network})
    return found


@pytest.mark.host
def test_a_node_on_the_host_has_a_table_of_sockets_of_its_own(in_sandbox: Any) -> None:
    """In the pinned world; in the kernel's own each shares the machine's, as a namespace does."""
    pinned, kernel, again = in_sandbox(tables_in_turn)
    assert set(pinned.values()) == set(again.values()) == {"8192"}
    assert all(size.startswith("-") for size in kernel.values())


@pytest.mark.parametrize("own", ["262144", None])
def test_a_first_namespace_is_left_alone(monkeypatch: pytest.MonkeyPatch, own: str | None) -> None:
    """Where this process shares no table it may be in the machine's own namespace; and a kernel
    before 6.1 has none of it.
    """
    monkeypatch.setattr(sysctl, "read", lambda name: own)
    monkeypatch.setattr(sysctl, "write", lambda name, value: pytest.fail(f"{name}={value}"))
    new_namespaces.begin_namespaces_in(PINNED)
