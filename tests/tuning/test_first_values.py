"""What a new node's sysctls are, and what a written value becomes, is read once for each kind of
node; what comes out is what reading all of them tells.
"""

from __future__ import annotations

from typing import Any

import pytest

from twlab.linux import sysctl
from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.results.transcript import Transcript
from twlab.settings import Settings
from twlab.tuning import first_values
from twlab.tuning.apply import Tuning


def tuned(topology: str, settings: Settings) -> tuple[dict[str, Any], dict[str, Any], int]:
    """Of each node what is said to be in force, and what is read of it; and how many reads the
    tuning took.
    """
    reads = 0
    real, write_back = sysctl.read, sysctl.write_back

    def counted(name: str) -> str | None:
        nonlocal reads
        reads += 1
        return real(name)

    def counted_too(name: str, value: str) -> str:
        nonlocal reads
        reads += 1
        return write_back(name, value)

    said, found = {}, {}
    with Network(load_topology(topology)) as network:
        loop = Loop()
        sysctl.read, sysctl.write_back = counted, counted_too
        try:
            for name, node in network.nodes.items():
                with Tuning(node, settings, loop, Transcript(lambda: loop.now_s)) as tuning:
                    said[name] = tuning.effective
        finally:
            sysctl.read, sysctl.write_back = real, write_back
        for name, node in network.nodes.items():
            with node.inside():
                found[name] = {pin: [real(one) for one in sysctl.expand(pin)] for pin in said[name]}
        loop.close()
    return said, found, reads


def twice() -> list[Any]:
    first_values._known.clear()
    first_values._taken.clear()
    rounds = [
        tuned("nat", Settings(timestamps=0)),
        tuned("nat", Settings(timestamps=0)),
        tuned("nat,clients=2", Settings()),
    ]
    return [list(one) for one in rounds]


@pytest.mark.host
def test_what_is_known_is_what_is_there(in_sandbox: Any) -> None:
    """The second network costs few reads and has the same in force, at every interface; so has one
    with more nodes.
    """
    (first, there, many), (second, there_too, few), (third, larger, _) = in_sandbox(twice)
    assert first == second
    assert there == there_too
    assert few < many / 8
    for said, found in (second, there_too), (third, larger):
        assert all(value in found[node][pin] for node, pins in said.items() for pin, value in pins.items())
    for node, pins in larger.items():
        for pin, values in pins.items():
            like = there.get(node, there["server"]).get(pin)
            if pin != "net.ipv4.tcp_timestamps" and like is not None:
                assert set(values) == set(like), (node, pin)


def written_before() -> list[str | None]:
    values: list[str | None] = []
    loop = Loop()

    def tune(node: Any) -> None:
        with Tuning(node, Settings(), loop, Transcript(lambda: loop.now_s)):
            values.append(node.read_sysctl("net.ipv4.tcp_sack"))

    for given in (False, True):
        with Network(load_topology("pair")) as network:
            node = network["client"]
            if given:
                node.write_sysctl("net.ipv4.tcp_sack", "0")
            tune(node)
            node.write_sysctl("net.ipv4.tcp_sack", "0")
            tune(node)
    return values


@pytest.mark.host
def test_a_node_that_was_given_values_is_not_taken_for_a_new_one(in_sandbox: Any) -> None:
    """Before its first tuning or after it: the baseline is in force all the same."""
    assert in_sandbox(written_before) == ["1", "1", "1", "1"]
