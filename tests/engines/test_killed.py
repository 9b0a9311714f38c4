"""The whole lab, killed with SIGKILL while it works: nothing is left, and what was finished can be
read.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import as_user, lacks, let_everyone_reach
from leftovers import left_behind, machine_state

from twlab.engines.kernel import find
from twlab.results.result import read_result

KILLS = 10


@pytest.mark.slow
@pytest.mark.parametrize("user", ["", "nobody"], ids=["same-user", "nobody"])
@pytest.mark.parametrize(
    "engine", [pytest.param("host", marks=pytest.mark.host), pytest.param("guest", marks=pytest.mark.guest)]
)
def test_kill_9_of_a_run_leaves_nothing(engine, user, tmp_path_factory):
    """The command line is killed at random moments of a run, from start to verdict: no process, no
    interface, no rule, no file but the run's.
    """
    if reason := lacks(engine if engine == "host" else "host", user):
        pytest.skip(reason)
    out = tmp_path_factory.mktemp("runs")
    out.chmod(0o777)
    let_everyone_reach(out)
    before, shared_memory = machine_state(), set(Path("/dev/shm").iterdir())
    places = {name: tmp_path_factory.mktemp(name.lower()) for name in ("TMPDIR", "HOME", "XDG_CACHE_HOME")}
    for folder in places.values():
        folder.chmod(0o777)
    kernel = {"TWLAB_KERNEL": str(find().path)} if engine == "guest" else {}
    for attempt in range(KILLS):
        tag = f"{os.getpid()}-{engine}-{user}-{attempt}-{random.random()}"
        environment = [f"{name}={value}" for name, value in {**places, **kernel, "TWLAB_TEST": tag}.items()]
        command = [
            *as_user(user),
            "env",
            *environment,
            sys.executable,
            "-m",
            "twlab",
            "run",
            "stale-data",
            "--engine",
            engine,
            "--out",
            str(out),
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                process.wait(random.uniform(0, 2.5))
            except subprocess.TimeoutExpired:
                process.kill()
        assert not left_behind(f"TWLAB_TEST={tag}")
    assert machine_state() == before
    assert set(Path("/dev/shm").iterdir()) <= shared_memory
    assert not [file for folder in places.values() for file in folder.iterdir()]
    for folder in out.iterdir():
        if (folder / "result.json").exists():
            assert read_result(folder).scenario == "stale-data"
