"""Counters: what the kernel counted, by the names that people cite."""

import pytest

from twlab.linux import counters
from twlab.network import Network, load_topology


def test_only_what_moved_is_told():
    """A delta leaves out what stood still, and takes a counter that was not there before as 0."""
    assert counters.delta({"a": 1, "b": 2}, {"a": 1, "b": 5, "c": 4, "d": 0}) == {"b": 3, "c": 4}


def watch_one_connection():
    with Network(load_topology("nat")) as network:
        client, server, gateway = network["client"], network["server"], network["nat"]
        before = {node.name: counters.read(node) for node in (client, server, gateway)}
        listener = server.socket()
        listener.bind((server.ip4, 80))
        listener.listen()
        first = client.socket()
        first.connect((server.ip4, 80))
        second, _ = listener.accept()
        first.close()
        second.close()
        refused = client.socket()
        assert refused.connect_ex((server.ip4, 81))
        counters.count(server, "PAWSPassive")
        counters.count(server, "ListenDrops")
        counters.count(server, "ListenDrops")
        after = {node.name: counters.read(node) for node in (client, server, gateway)}
        for socket in (listener, refused):
            socket.close()
        return before, {name: counters.delta(before[name], after[name]) for name in before}


@pytest.mark.host
@pytest.mark.parametrize("ordinary", [False, True])
def test_one_connection_shows_in_the_counters_of_each_node(in_sandbox, request, ordinary):
    """Names are nstat's, TcpExt without its prefix; each node has its own; what an emulation
    counted is added.
    """
    user = request.getfixturevalue("ordinary_user") if ordinary else ""
    before, moved = in_sandbox(watch_one_connection, user=user)
    assert moved["client"]["TcpActiveOpens"] == 2
    assert moved["client"]["TW"] == 1
    assert moved["server"]["TcpPassiveOpens"] == 1
    assert moved["server"]["TcpOutRsts"] == 1
    assert "TcpActiveOpens" not in moved["server"]
    assert (moved["server"]["PAWSPassive"], moved["server"]["ListenDrops"]) == (1, 2)
    assert moved["nat"]["IpForwDatagrams"] >= 7
    assert {"ConntrackInvalid", "ConntrackInsertFailed", "ConntrackDrop"} <= before["nat"].keys()
    assert {"PAWSEstab", "TCPTimeWaitOverflow", "Ip6InReceives"} <= before["client"].keys()
