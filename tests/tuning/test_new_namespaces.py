"""What new namespaces begin with: in the lab kernel the pinned world's values of each interface, on
the host engine a table of sockets of their own; in the pinned world alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from in_guest import run_in_guest
from new_namespaces_cases import before_and_after, worlds_in_turn

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


# What an administrator sets on a machine: of what TCP at close depends on, a new namespace takes this
# (net/ipv4/tcp_ipv4.c, tcp_sk_init; forwarding: net/ipv4/devinet.c, devinet_init_net) ...
TAKEN = {
    "net.ipv4.tcp_rmem": "4096 131072 1048576",
    "net.ipv4.tcp_wmem": "4096 16384 1048576",
    "net.ipv4.tcp_congestion_control": "reno",
    "net.ipv4.ip_forward": "1",
}
# ... and begins with the kernel's own default of each of these.
NOT_TAKEN = {
    "net.ipv4.ip_local_port_range": "1024 65535",
    "net.ipv4.ip_local_reserved_ports": "8080",
    "net.ipv4.tcp_tw_reuse": "1",
    "net.ipv4.tcp_tw_reuse_delay": "100",
    "net.ipv4.tcp_max_tw_buckets": "77",
    "net.ipv4.tcp_timewait_len": "10000",
    "net.ipv4.tcp_fin_timeout": "5",
    "net.ipv4.tcp_timestamps": "0",
    "net.ipv4.tcp_rfc1337": "1",
    "net.ipv4.tcp_abort_on_overflow": "1",
    "net.ipv4.tcp_syn_retries": "2",
    "net.ipv4.tcp_invalid_ratelimit": "0",
    "net.ipv4.tcp_challenge_ack_limit": "100",
    "net.core.somaxconn": "100",
    "net.netfilter.nf_conntrack_tcp_timeout_time_wait": "10",
    "net.netfilter.nf_conntrack_tcp_be_liberal": "1",
}


@pytest.mark.guest
def test_a_container_has_little_of_what_its_machine_is_set_to(tmp_path: Path) -> None:
    """A namespace made after the machine was tuned: buffers, congestion control and forwarding are
    as there; ports and TIME_WAIT are as in a machine that nothing was set on.
    """
    before, machine, after = run_in_guest(before_and_after, TAKEN | NOT_TAKEN, folder=tmp_path)
    assert (TAKEN | NOT_TAKEN).items() >= machine.items()
    assert (TAKEN | NOT_TAKEN).keys() - machine.keys() <= {"net.ipv4.tcp_tw_reuse_delay"}  # from Linux 6.14 on
    assert all(before[name] != value for name, value in machine.items())
    assert {name for name in machine if after[name] == machine[name]} == TAKEN.keys()
    assert {name for name in machine if after[name] == before[name]} == machine.keys() - TAKEN.keys()


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
