"""Sockets and TIME_WAIT over time, as the kernel counts them."""

import socket
from types import SimpleNamespace

import pytest

from twlab.lab import socket_counts
from twlab.lab.socket_counts import SocketCounts
from twlab.loop import Loop, Timer
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


class HandDrivenLoop:
    """A loop whose time is set by hand."""

    def __init__(self):
        self.now_s, self.timers = 0.0, []

    def call_later(self, delay_s, call):
        self.timers.append(Timer(self.now_s + delay_s, call))
        return self.timers[-1]

    def go_to(self, at_s):
        while due := [timer for timer in self.timers if timer.at_s <= at_s and not timer.cancelled]:
            timer = min(due, key=lambda one: one.at_s)
            self.timers.remove(timer)
            self.now_s = timer.at_s
            timer.call()
        self.now_s = at_s


def test_after_a_long_quiet_time_a_change_is_followed_closely(monkeypatch):
    """Samples have become rare; one connection, and the end of its TIME_WAIT is seen within 1 s."""
    counts = [1, 0]
    files = SimpleNamespace(counts=lambda: list(counts), close=lambda: None)
    monkeypatch.setattr(socket_counts, "Sockstat", lambda node: files)
    loop = HandDrivenLoop()
    with SocketCounts([SimpleNamespace(name="client")], loop) as counter:
        loop.go_to(1230)
        assert loop.timers[-1].at_s > 1232
        for at_s, state in ((1230, [2, 0]), (1231, [1, 1])):
            loop.go_to(at_s)
            counts[:] = state
            counter.hear(Entry(at_s, "verb", "goes on", "client"))
        loop.go_to(1291)
        counts[:] = [1, 0]
        loop.go_to(1500)
    rows = counter.series["client"]
    assert [row[1:] for row in rows] == [[1, 0], [2, 0], [1, 1], [1, 0]]
    assert 1291 < rows[-1][0] <= 1292
