"""Causes stand before effects in every capture, also where the clock stands still; and each ladder
ends in the states of the kernel's own tables.
"""

import json
from pathlib import Path

import pytest
from causes import faults
from in_guest import run_in_guest

from twlab.lab.assembly import assemble
from twlab.network import load_topology, topology_names
from twlab.results.result import ArmResult
from twlab.segment import match
from twlab.settings import Settings

TOPOLOGIES = [*topology_names(), "nat,clients=3,servers=2", "campus,clients=2,servers=2"]
FAMILIES = [4, 6]
STORIES = ("client first", "server first", "both", "open", "reset", "half", "late")


def pairs(topology):
    """Who can connect to whom: nodes of the topology, by the way that segments take."""
    name = topology.partition(",")[0]
    nodes = list(load_topology(topology).nodes())
    clients, servers = ([node for node in nodes if node.startswith(start)] for start in ("c", "s"))
    if name == "campus":
        return [*((client, "proxy") for client in clients), *(("proxy", server) for server in servers)]
    if name == "proxy":
        return [("proxy", server) for server in servers]
    if name == "sidecar":
        return [("pod", "server")]
    return [(client, server) for client in clients for server in servers]


def tell(lab, story, client, server, port, family):
    """One connection, ended as `story` says."""
    listener = lab[server].listen(port, family=family)
    near = lab[client].connect(lab[server], port, family=family)
    far = listener.accept()
    near.send(b"there")
    far.receive(5)
    far.send(b"back")
    near.receive(4)
    if story == "late":
        for wire in lab.wires.values():
            wire.delay(match(), 0.01, 4)
    if story in ("client first", "half", "both", "late"):
        near.close()
    if story in ("client first", "late"):
        far.wait_closed_by_peer()
    if story in ("client first", "server first", "both", "late"):
        far.close()
    if story == "server first":
        near.wait_closed_by_peer()
        near.close()
    if story == "reset":
        near.abort()
        far.wait_closed_by_peer()
    lab.loop.sleep(0.1)
    for wire in lab.wires.values():
        for rule in list(wire._rules):
            rule.stop()


def told(topology, folder, family):
    """Every story, one after the other, in one lab; the evidence."""
    made = load_topology(topology)
    with assemble(made, dict.fromkeys(made.nodes(), Settings()), Path(folder, "arm.pcapng"), seed="1") as running:
        port = 80
        for story in STORIES[:3] if "," in topology else STORIES:
            for client, server in pairs(topology)[:3]:
                port += 1
                running.lab.step(f"{story}: {client} and {server}")
                tell(running.lab, story, client, server, port, family)
    return running.evidence.as_dict()


def check(outcome, folder):
    assert outcome["captured"] > 20
    assert any(outcome["left"].values())
    assert faults(Path(folder, "arm.pcapng"), ArmResult("control", **outcome)) == []


@pytest.mark.host
@pytest.mark.parametrize("topology", [name for name in TOPOLOGIES if name != "ipvs"])  # it takes no orders in a sandbox
def test_causes_and_ends_on_this_machine(in_sandbox, tmp_path, topology):
    """In real time, IPv6."""
    check(in_sandbox(told, topology, str(tmp_path), 6), tmp_path)


def folder_of(folder, topology, family):
    return Path(folder, f"{topology} IPv{family}")


def told_everywhere(folder, families):
    """All stories in all topologies, one lab after the other; the evidence of each goes into its
    folder.
    """
    for topology in TOPOLOGIES:
        for family in families:
            own = folder_of(folder, topology, family)
            own.mkdir()
            (own / "evidence.json").write_text(json.dumps(told(topology, str(own), family)))


@pytest.fixture(scope="module")
def in_one_boot(tmp_path_factory):
    """The folder that a boot of the lab kernel has left, in which all stories were told."""
    folder = tmp_path_factory.mktemp("guest")
    run_in_guest(told_everywhere, str(folder), FAMILIES, folder=folder, real_limit_s=600)
    return folder


@pytest.mark.guest
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_causes_and_ends_where_the_clock_stands_still(in_one_boot, topology, family):
    """In virtual time, where a whole exchange bears one time."""
    folder = folder_of(in_one_boot, topology, family)
    check(json.loads((folder / "evidence.json").read_text()), folder)
