"""`twlab diagnose --show-me`: what was found is run in the lab, with the machine's settings."""

import subprocess
import sys

import pytest
from conftest import ROOT
from diagnose_cases import HEADER, by_connect, open_

from twlab.results.result import read_result

pytestmark = pytest.mark.guest
SYSCTL = "net.ipv4.tcp_fin_timeout = 30\nnet.ipv4.tcp_tw_reuse = 0\nnet.ipv4.tcp_timestamps = 1\n"


def test_the_finding_is_shown_with_the_machines_settings(tmp_path):
    """A lowered tcp_fin_timeout: the scenario about it runs, under this machine's tcp_tw_reuse; its
    own arms keep the settings that they are about.
    """
    text = tmp_path / "texts"
    listed = "".join([HEADER, *open_("10.0.0.1", "10.0.0.2", 80, by_connect(80))])
    text.write_text(f"==> ss -tano <==\n{listed}==> sysctl -a <==\n{SYSCTL}")
    words = ["diagnose", text, "--show-me", "--engine", "guest", "--out", tmp_path / "runs"]
    done = subprocess.run(
        [sys.executable, "-m", "twlab", *map(str, words)], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "see it: twlab run fin-timeout-myth" in done.stdout
    (folder,) = (tmp_path / "runs").iterdir()
    result = read_result(folder)
    assert (result.scenario, str(result.verdict)) == ("fin-timeout-myth", "SUPPORTED")
    assert "--set tw_reuse=0" in done.stderr and "fin_timeout_s" not in done.stderr
