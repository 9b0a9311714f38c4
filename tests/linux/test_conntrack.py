"""The connections that a NAT gateway tracks: listed, counted, forgotten; and its timers, set by
sysctl and read back over netlink.
"""

import pytest
from in_guest import run_in_guest

from twlab.linux import conntrack
from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.results.transcript import Transcript
from twlab.settings import Settings
from twlab.traffic.applications import Host
from twlab.tuning.apply import Tuning

TIMERS_S = {"established": 700, "time_wait": 30, "close": 7, "syn_sent": 11}


class Stage:
    """Two clients behind a gateway, and connections between them and the server."""

    def __init__(self, network):
        self.network, self.loop = network, Loop()
        self.transcript = Transcript(lambda: self.loop.now_s)
        self.listeners = {}

    def host(self, name):
        return Host(self.network[name], self.loop, self.transcript)

    def opened(self, client="c1", family=4, port=40_000):
        server = self.host("server")
        if family not in self.listeners:
            self.listeners[family] = server.listen(80, family=family)
        near = self.host(client).connect(server, 80, family=family, source_port=port)
        return near, self.listeners[family].accept()

    def closed(self, **options):
        near, far = self.opened(**options)
        near.close()
        far.wait_closed_by_peer()
        far.close()
        self.loop.sleep(0.05)

    def words(self):
        return [entry.words() for entry in conntrack.table(self.network["nat"])]


def listed_counted_forgotten():
    with Network(load_topology("nat,clients=2")) as network:
        stage, nat = Stage(network), network["nat"]
        seen = [stage.words()]
        stage.closed()
        stage.opened(family=6)
        stage.opened("c2")
        seen += [stage.words(), conntrack.count(nat), conntrack.by_state(conntrack.table(nat))]
        second = next(entry for entry in conntrack.table(nat) if entry.original.source == network["c2"].ip4)
        kept = second.outside != (network["nat"].interface_to("wire").all4[0], 40_000)
        first = [entry for entry in conntrack.table(nat) if entry.state == "TIME_WAIT"]
        seen += [kept, conntrack.delete(nat, first), conntrack.delete(nat, first), conntrack.count(nat)]
        return [*seen, stage.words(), conntrack.count(network["server"])]


def check_listing(seen):
    before, words, count, states, another_port, forgotten, forgotten_again, left, words_left, at_the_server = seen
    assert before == []
    assert words[0] == "10.0.1.1:40000 > 10.2.1.1:80 as 10.1.1.1:40000 TIME_WAIT"
    assert words[2] == "[fd00:0:0:1::1]:40000 > [fd00:0:2:1::1]:80 as [fd00:0:1:1::1]:40000 ESTABLISHED"
    assert (count, states) == (3, {"ESTABLISHED": 2, "TIME_WAIT": 1})
    assert another_port, "both clients used the same port, and the first one's was taken outside"
    assert (forgotten, forgotten_again, left) == (1, 0, 2)
    assert words_left == words[1:]
    assert at_the_server == 0, "only the gateway tracks"


@pytest.mark.host
@pytest.mark.parametrize("user", ["", "nobody"])
def test_entries_are_listed_counted_and_forgotten(in_sandbox, ordinary_user, user):
    """Both families, all states, with the outside port that the gateway chose; deleting takes what
    was named and nothing else.
    """
    check_listing(in_sandbox(listed_counted_forgotten, user=ordinary_user if user else ""))


@pytest.mark.guest
def test_entries_in_the_lab_kernel(tmp_path):
    """The same on the lab kernel."""
    check_listing(run_in_guest(listed_counted_forgotten, folder=tmp_path))


def timers():
    with Network(load_topology("nat")) as network:
        stage, nat = Stage(network), network["nat"]
        with Tuning(
            nat,
            Settings(nat_time_wait_s=TIMERS_S["time_wait"], nat_close_s=TIMERS_S["close"]),
            stage.loop,
            stage.transcript,
        ):
            for state in ("established", "syn_sent"):
                nat.write_sysctl(f"net.netfilter.nf_conntrack_tcp_timeout_{state}", TIMERS_S[state])
            client, server = stage.host("client"), stage.host("server")
            listener = server.listen(80)
            ends = [
                (client.connect(server, 80, source_port=port), listener.accept()) for port in (40_001, 40_002, 40_003)
            ]
            ends[1][0].close()
            ends[1][1].wait_closed_by_peer()
            ends[1][1].close()
            ends[2][0].abort()
            network["wire"].write_sysctl("net.ipv4.ip_forward", 0)
            client.try_connect(server, 80, source_port=40_004, timeout_s=0.05)
            stage.loop.sleep(0.05)
            remaining = {entry.original.source_port: (entry.state, entry.remaining_s) for entry in conntrack.table(nat)}
            stage.loop.sleep(1.5)
            later = {entry.original.source_port: entry.remaining_s for entry in conntrack.table(nat)}
    return [[*remaining[port], later[port]] for port in sorted(remaining)]


def check_timers(seen):
    names = {"established": "ESTABLISHED", "time_wait": "TIME_WAIT", "close": "CLOSE", "syn_sent": "SYN_SENT"}
    assert [state for state, _, _ in seen] == list(names.values())
    for (state, first_s, later_s), wanted_s in zip(seen, TIMERS_S.values(), strict=True):
        assert wanted_s - 1 <= first_s <= wanted_s, state
        assert state == "SYN_SENT" or 1 <= first_s - later_s <= 2, f"{state} does not run down"


@pytest.mark.host
def test_timers_are_set_and_read_back_from_the_entries(in_sandbox):
    """What was written as a sysctl is what each entry has left, by its state; and it runs down."""
    check_timers(in_sandbox(timers, calm_s=0.1))


@pytest.mark.guest
def test_timers_in_the_lab_kernel(tmp_path):
    """The same on the lab kernel."""
    check_timers(run_in_guest(timers, folder=tmp_path))
