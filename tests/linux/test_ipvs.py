"""The kernel's load balancer, configured and listed; and ports that a gateway keeps at rest."""

import socket

import pytest
from in_guest import run_in_guest

from twlab.errors import CapabilityError, UsageError
from twlab.linux import conntrack, ipvs
from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.results.transcript import Transcript
from twlab.traffic.applications import Host
from twlab.traffic.service import Service


def balanced_and_changed():
    with Network(load_topology("ipvs,servers=3")) as network:
        loop = Loop()
        hosts = {name: Host(network[name], loop, Transcript(lambda: loop.now_s)) for name in network.nodes}
        seen = []
        for family in (4, 6):
            balancer = network["balancer"]
            service = Service(hosts["balancer"], {name: hosts[name] for name in balancer.servers}, family)

            def served(service=service):
                return [service.visit(hosts["client"]).server for _ in range(6)]

            seen.append(served())
            balancer.weigh("s1", 0)
            balancer.remove("s2")
            seen.append(served())
            balancer.add("s2")
            balancer.weigh("s1", 1)
            seen.append(served())
        with balancer.inside():
            entries = ipvs.connections()
            seen.append(sorted({(entry.client, entry.state) for entry in entries}))
            try:
                ipvs.add_service(ipvs.Service("10.9.0.1", 81), "best")
            except CapabilityError as error:
                seen.append(f"{error.slug}: {error.message}")
        for change in (lambda: balancer.remove("s9"), lambda: balancer.add("s1")):
            try:
                change()
            except UsageError as error:
                seen.append(error.slug)
        return seen


@pytest.mark.guest
def test_a_service_is_balanced_changed_and_listed(tmp_path):
    """Round robin over three servers, IPv4 and IPv6; one at weight 0 and one removed get nothing;
    they come back; an unknown scheduler or server is one message.
    """
    all_three = sorted(["s1", "s2", "s3"] * 2)
    *rounds, entries, scheduler, unknown, there = run_in_guest(balanced_and_changed, folder=tmp_path)
    assert [sorted(served) for served in rounds] == [all_three, ["s3"] * 6, all_three] * 2
    assert entries == [["10.0.1.1", "TIME_WAIT"], ["fd00:0:0:1::1", "TIME_WAIT"]]
    assert scheduler.startswith("no-ipvs: ")
    assert "best" in scheduler
    assert (unknown, there) == ("no-such-server", "no-such-server")


def rested():
    with Network(load_topology("nat")) as network:
        loop = Loop()
        client, server = (Host(network[name], loop, Transcript(lambda: loop.now_s)) for name in ("client", "server"))
        listener, rest = server.listen(80), conntrack.PortRest(network["nat"])
        loop.watch(rest.channel, rest.serve)
        for _ in range(3):
            near = client.connect(server, 80)
            near.close()
            listener.accept().close()
            loop.sleep(0.05)
        entries = conntrack.table(network["nat"])
        return [rest.rested, [(entry.state, entry.fixed) for entry in entries]]


@pytest.mark.guest
def test_ports_rest_once_their_connections_are_closed(tmp_path):
    """Each entry that comes to TIME_WAIT is fixed, once."""
    assert run_in_guest(rested, folder=tmp_path) == [3, [["TIME_WAIT", True]] * 3]


def rested_at_once(count):
    loop = Loop()
    with Network(load_topology("nat")) as network:
        client, server = (Host(network[name], loop, Transcript(lambda: loop.now_s)) for name in ("client", "server"))
        listener, rest = server.listen(80), conntrack.PortRest(network["nat"])
        rest.channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(count):
            near = client.connect(server, 80)
            near.close()
            listener.accept().close()
        loop.sleep(0.1)
        rest.serve()
        entries = conntrack.table(network["nat"])
        return [rest.rested, sum(entry.fixed for entry in entries if entry.state == "TIME_WAIT")]


@pytest.mark.guest
def test_ports_rest_although_events_were_lost(tmp_path):
    """More close at a time than the socket of events holds: the table is looked at instead."""
    assert run_in_guest(rested_at_once, 100, folder=tmp_path) == [100, 100]
