"""A user's proxy configuration, read or run, for the tests of `twlab.own_proxy`."""

import json
import os
import subprocess
import sys

import pytest

from twlab.errors import CapabilityError
from twlab.own_proxy.order import Order, prepare
from twlab.traffic.program import find


def installed(name):
    """Skip the test where the program for a file of that name is not installed."""
    try:
        find("caddy" if name == "Caddyfile" else name.partition(".")[0])
    except CapabilityError as error:
        pytest.skip(error.message)


def prepared(tmp_path, name, text, **options):
    """The file, read; with what will be run."""
    if name == "Caddyfile":
        installed(name)  # Caddy itself reads it
    path = tmp_path / name
    path.write_text(text)
    order = Order(path=path, **options)
    return order, prepare(order)


def changed(made, name):
    return next(arm.change.text for arm in made.arms if arm.change.name == name)


def ran(tmp_path, name, text, *options):
    """``twlab proxy`` of a file, as JSON; skipped where the program is not installed."""
    installed(name)
    if "host" in options and os.geteuid() != 0:
        pytest.skip("on the host engine `twlab proxy` needs root")
    (tmp_path / name).write_text(text)
    small = ["--set", "time_wait_s=2", "--ports", "40000-40059", "--rate", "50", "--duration", "4"]
    command = [sys.executable, "-m", "twlab", "proxy", name, *small, "--out", "runs", "--json", *options]
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)


def arms_of(done):
    """The arms by name, from what it printed."""
    assert done.returncode == 0, done.stdout + done.stderr
    return {arm["name"]: arm for arm in json.loads(done.stdout)["arms"]}
