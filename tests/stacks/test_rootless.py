"""Rootless containers' gateways: pasta, which the catalogue does not run, and what is missing."""

import pytest

from twlab.catalogue import load_scenarios
from twlab.engines import choose
from twlab.errors import CapabilityError, UsageError
from twlab.linux import tun
from twlab.run.runner import AGENT, Order, run
from twlab.scenario import Verdict
from twlab.stacks import rootless

SCENARIO = load_scenarios()["rootless-gateway"]


def carried_out(engine, folder, *sets, arms=("few-ports",)):
    order = Order([("rootless-gateway", SCENARIO)], arms, sets=sets, out=folder)
    (finished,) = run(order, choose(engine, agent=AGENT))
    return finished.result


@pytest.mark.host
def test_pasta_runs_out_of_the_hosts_ports(tmp_path):
    """As slirp4netns does; the error is its version's: none in time, or ECONNREFUSED."""
    result = carried_out("host", tmp_path, "program=pasta", "patience_s=0.4", arms=("few-ports", "server-closes"))
    errors = {name: arm.error for name, arm in result.arms.items() if arm.error}
    if errors:  # this machine gives no TAP device to this user
        assert {error["slug"] for error in errors.values()} == {"no-tun"}
        assert all("--engine guest" in error["remedy"] for error in errors.values())
        return
    assert result.verdict is Verdict.SUPPORTED, {name: arm.mismatches for name, arm in result.arms.items()}
    assert result.arms["few-ports"].observed["error"] in ("pending", "ECONNREFUSED")


@pytest.mark.guest
def test_pasta_in_the_lab_kernel_says_what_it_lacks(tmp_path):
    """It confines itself with seccomp, which that kernel has not."""
    error = carried_out("guest", tmp_path, "program=pasta").arms["few-ports"].error
    assert error["slug"] == "no-rootless" and "--engine host" in error["remedy"]


def test_a_program_that_is_none_is_told():
    """With those that there are."""
    with pytest.raises(UsageError, match="slirp4netns or pasta") as raised:
        rootless.RootlessGateway(None, "vpnkit", "client", "proxy", [])
    assert raised.value.slug == "bad-setting"


def test_without_a_tap_device_the_message_names_the_way_out(monkeypatch):
    """Load the module, or take the lab kernel."""
    monkeypatch.setattr(tun, "DEVICE", "/nonexistent/tun")
    with pytest.raises(CapabilityError, match="cannot be opened") as raised:
        tun.check()
    assert raised.value.slug == "no-tun" and "--engine guest" in raised.value.remedy
