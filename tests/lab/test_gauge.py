"""Sockets and TIME_WAIT over time, as the kernel counts them."""

import socket

import pytest

from twlab.lab.socket_counts import SocketCounts
from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.results.transcript import Entry


def count_three_connections(family=4):
    loop, kind = Loop(), socket.AF_INET6 if family == 6 else socket.AF_INET
    with Network(load_topology("pair")) as network:
        client, server = network["client"], network["server"]
        with SocketCounts((client, server), loop) as counter:
            address = (server.address(family), 80)
            listener = server.socket(kind)
            listener.bind(address)
            listener.listen()
            for _ in range(3):
                first = client.socket(kind)
                first.connect(address)
                second, _ = listener.accept()
                counter.hear(Entry(0.0, "verb", "connects", "client"))
                second.close()
                first.close()
            loop.sleep(1.1)
            counter.hear(Entry(0.0, "step", "Nothing more happens."))
            loop.sleep(1.1)
            listener.close()
        open_files = [file for files in counter._files.values() for file in files.descriptors]
    return counter.series, open_files


@pytest.mark.host
@pytest.mark.parametrize("family", [4, 6])
def test_each_change_is_kept_once(in_sandbox, family):
    """One row for each change: the client's sockets at each word of it, the server's TIME_WAIT at
    the next second; IPv6 alike. No file stays open.
    """
    series, open_files = in_sandbox(count_three_connections, family, calm_s=0.1)
    counts = {name: [tuple(row[1:]) for row in rows] for name, rows in series.items()}
    assert counts["client"] == [(0, 0), (1, 0), (0, 0)]
    assert counts["server"] == [(0, 0), (1, 3)]
    began_s, changed_s = (row[0] for row in series["server"])
    assert 0.9 < changed_s - began_s < 1.5
    assert open_files == []
