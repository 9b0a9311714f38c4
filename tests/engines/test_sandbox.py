"""The sandbox: nothing of the lab outlives its caller, and nothing of the machine is
touched.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from leftovers import left_behind, machine_state

from twlab.engines.host_init import keep_shared_memory_apart

pytestmark = pytest.mark.host

CALLER = """
import subprocess, sys, os
process = subprocess.Popen([sys.executable, "-m", "twlab.engines.sandbox", str(os.getpid()), *sys.argv[1:]], start_new_session=True)
print(process.pid, flush=True)
process.wait()
"""  # noqa: E501
# Inside: another namespace within, an interface, and processes that would rather stay.
BUSY = "ip link add left type veth peer name right; setsid sleep 1000 & trap '' TERM HUP INT; sleep 1000 & wait"


@pytest.fixture(params=["same-user", "nobody"])
def as_user(request):
    """Arguments of Popen that choose the user: ours, or ``nobody`` where we are root."""
    if request.param == "same-user":
        return {}
    if os.getuid():
        pytest.skip("only root can become nobody")
    return {"user": 65534, "group": 65534, "extra_groups": []}


@pytest.mark.parametrize("victim", ["caller", "outer", "init"])
def test_kill_9_at_any_moment_leaves_nothing(as_user, victim):
    """The caller, the waiting process or the lab's first process is killed at a random moment: no
    process is left, 17 times each.
    """
    before = machine_state()
    for attempt in range(17):
        tag = f"TWLAB_TEST={os.getpid()}-{victim}-{attempt}-{random.random()}"
        name, value = tag.split("=", 1)
        caller = subprocess.Popen(
            [sys.executable, "-c", CALLER, "/bin/sh", "-c", BUSY],
            stdout=subprocess.PIPE,
            env={**os.environ, name: value},
            **as_user,
        )
        outer = int(caller.stdout.readline())
        time.sleep(random.uniform(0, 0.12))
        if victim == "caller":
            caller.kill()
        else:
            target = outer if victim == "outer" else next(iter(_children(outer)), outer)
            os.kill(target, signal.SIGKILL)
        caller.wait()
        caller.stdout.close()
        assert not left_behind(tag)
    assert machine_state() == before


def _children(pid):
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def test_the_lab_is_root_inside_and_sees_none_of_the_machine(as_user):
    """Uid 0, pid 1, a loopback interface that is down and nothing else, a /run of its own."""
    script = "import os; print(os.getuid(), os.getpid(), os.listdir('/run'), open('/proc/net/dev').read().count(':'))"
    command = [sys.executable, "-c", CALLER, sys.executable, "-c", script]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, **as_user).stdout.splitlines()
    assert shown[1] == "0 1 [] 1"


def test_the_exit_status_comes_through():
    """The command's status is the sandbox's; a signal is 128 and its number."""
    for script, status in (("exit 5", 5), ("kill -9 $$", 0), ("kill -TERM $$; exit 3", 3)):
        done = subprocess.run(
            [sys.executable, "-m", "twlab.engines.sandbox", str(os.getpid()), "/bin/sh", "-c", script], check=False
        )
        assert done.returncode == status  # pid 1 does not hear signals from inside its own namespace


def shared_memory_before_and_in_a_lab() -> list[list[str]]:
    (Path("/dev/shm") / "another-lab").touch()
    before = os.listdir("/dev/shm")
    keep_shared_memory_apart()
    return [before, os.listdir("/dev/shm")]


def test_a_lab_has_shared_memory_of_its_own(in_sandbox):
    """What another lab's Squid keeps there under the same name is not seen."""
    assert in_sandbox(shared_memory_before_and_in_a_lab) == [["another-lab"], []]
