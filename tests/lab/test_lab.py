"""What a scenario holds in its hand: four-tuples opened again, a firewall, stories side by side."""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random

import pytest
from wired import wired

from twlab.lab.lab import Lab

pytestmark = pytest.mark.host


@contextmanager
def a_lab() -> Iterator[Lab]:
    with wired() as base:
        yield Lab(base.network, base.loop, base.transcript, {"wire": base.wire}, {}, Random(1))


def stories():
    with a_lab() as lab:
        went = []

        def story(name, *times_s):
            for at_s in times_s:
                yield lab.now_s + at_s
                went.append(name)
            return name.upper()

        return {
            "outcomes": lab.side_by_side([story("a", 0.02, 0.02), story("b", 0.01), story("c"), story("d", 0.03)]),
            "went": "".join(went),
        }


def test_stories_go_on_side_by_side(in_sandbox):
    """Each goes on when its time has come, whose turn it was before; the outcomes stand in the
    order of the stories.
    """
    assert in_sandbox(stories) == {"outcomes": ["A", "B", "C", "D"], "went": "bada"}


def reopening(timestamps, family):
    with a_lab() as lab:
        lab.network["client"].write_sysctl("net.ipv4.tcp_timestamps", timestamps)
        listener = lab["server"].listen(80, family=family)
        old, peer = lab["client"].connect(lab["server"], 80, source_port=40_000, family=family), listener.accept()
        lab.close(old, peer)
        again = lab.reopen(old, listener)
        if again.error:
            return {"error": again.error}
        again.new.send(b"hello")
        return {
            "same": again.new.flow == old.flow and again.peer.flow == old.flow.reversed(),
            "read": again.peer.receive(5).decode(),
            "flags": [again.syn.flags, again.syn_ack.flags],
            "answers": again.syn_ack.ack == again.syn.end_seq,
        }


@pytest.mark.parametrize("family", [4, 6])
def test_a_four_tuple_is_opened_again(family, in_sandbox):
    """The same client, ports and server; the SYN and the SYN-ACK are those that crossed the wire.
    Or the error with which it was refused.
    """
    assert in_sandbox(reopening, 1, family) == {"same": True, "read": "hello", "flags": ["S", "SA"], "answers": True}
    assert in_sandbox(reopening, 0, family) == {"error": "EADDRNOTAVAIL"}


def refusing():
    with a_lab() as lab:
        lab["server"].listen(80)
        lab["server"].listen(81)
        lab.refuse("server", "tcp dport 80")
        lab.refuse("server", "tcp dport 82")
        return [lab["client"].try_connect(lab["server"], port, timeout_s=0.3).error for port in (80, 81)]


def test_a_firewall_drops_what_it_is_told(in_sandbox):
    """What matches gets no answer, and the rest passes."""
    assert in_sandbox(refusing) == ["pending", ""]
