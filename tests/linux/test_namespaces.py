"""Network namespaces: entered and left, within one another, and beside those entered otherwise."""

import os

import pytest

from twlab.linux import syscalls

pytestmark = pytest.mark.host


def enter_and_leave():
    def here():
        return os.stat("/proc/thread-self/ns/net").st_ino

    first, second = syscalls.new_network_namespace(), syscalls.new_network_namespace()
    home, own = here(), [os.fstat(fd).st_ino for fd in (first, second)]
    seen = [home]
    with syscalls.inside_network_namespace(first):
        seen.append(here())
        with syscalls.inside_network_namespace(second):
            seen.append(here())
        seen.append(here())
    seen.append(here())
    syscalls.setns(first)
    with syscalls.inside_network_namespace(second):
        pass
    seen.append(here())
    syscalls.unshare(syscalls.CLONE_NEWNET)
    new = here()
    with syscalls.inside_network_namespace(second):
        pass
    seen.append(here())
    names = {home: "home", own[0]: "first", own[1]: "second", new: "new"}
    return [names[number] for number in seen]


def test_leaving_leads_back(in_sandbox):
    """Out of one within another; and where the process has gone elsewhere by itself in between."""
    assert in_sandbox(enter_and_leave) == ["home", "first", "second", "first", "home", "first", "new"]
