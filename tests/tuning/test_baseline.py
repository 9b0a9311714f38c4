"""The baseline: the same world for every arm, on every kernel, with a reason for each line."""

import pytest

from twlab.linux import sysctl
from twlab.loop import Loop
from twlab.network import Network, load_topology
from twlab.results.transcript import Transcript
from twlab.settings import Settings
from twlab.tuning.apply import KNOBS, Tuning
from twlab.tuning.baseline import BASELINE, pinned


def test_every_line_is_there_once_and_says_why():
    """No sysctl is pinned twice, every value is in the kernel's own spelling, every line has its
    reason.
    """
    assert len({pin.sysctl for pin in BASELINE}) == len(BASELINE)
    for pin in BASELINE:
        assert pin.value == " ".join(pin.value.split())
        assert len(pin.reason) > 1


def test_what_a_setting_can_change_is_pinned():
    """Settings state differences from the baseline, so the baseline has a value for each sysctl
    that they can change.
    """
    assert [knob.sysctl for knob in KNOBS if pinned(knob.sysctl) is None] == []


def put_into_force():
    with Network(load_topology("nat")) as network:
        loop = Loop()
        tunings = {}
        for name, node in network.nodes.items():
            with Tuning(node, Settings(), loop, Transcript(lambda: loop.now_s)) as tuning:
                tunings[name] = tuning.effective
        with network["client"].inside():
            wildcard = {one: sysctl.read(one) for one in sysctl.expand("net.ipv4.conf.*.rp_filter")}
        return tunings, wildcard


@pytest.mark.host
@pytest.mark.parametrize("ordinary", [False, True])
def test_the_kernel_takes_all_of_it(in_sandbox, request, ordinary):
    """As root and as an ordinary user: read back, every pin that this kernel has holds its value;
    conntrack's on gateways only.
    """
    user = request.getfixturevalue("ordinary_user") if ordinary else ""
    tunings, wildcard = in_sandbox(put_into_force, user=user)
    for name, effective in tunings.items():
        assert {one: value for one, value in effective.items() if value not in (None, pinned(one))} == {}, name
        missing = {one for one, value in effective.items() if value is None}
        assert {"net.ipv4.tcp_timestamps", "net.ipv4.tcp_tw_reuse", "net.ipv4.tcp_max_tw_buckets"}.isdisjoint(missing)
        assert any(one.startswith("net.netfilter.") for one in effective) == (name == "nat")
    assert len(wildcard) >= 4  # all, default, lo, and the link
    assert set(wildcard.values()) == {"0"}


def touched_outside():
    before = {pin.sysctl: {one: sysctl.read(one) for one in sysctl.expand(pin.sysctl)} for pin in BASELINE}
    put_into_force()
    return {
        name: values
        for name, values in before.items()
        if values != {one: sysctl.read(one) for one in sysctl.expand(name)}
    }


@pytest.mark.host
def test_only_the_nodes_own_sysctls_are_touched(in_sandbox):
    """All pins belong to a network namespace: the one in which the lab was started keeps its
    values.
    """
    assert in_sandbox(touched_outside) == {}
