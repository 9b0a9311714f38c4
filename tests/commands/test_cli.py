"""The command line, run as a user runs it: messages, exit statuses, and where each thing is
printed.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from twlab import __version__
from twlab.results.result import read_result

RUN = ROOT / "tests" / "data" / "runs" / "stale-data"

ALWAYS_WRONG = """
from twlab import Arm, Lab, Observation, Settings, scenario
@scenario(topology="pair", reads="nobody",
    control=Arm(Settings(), expect=Observation(x={control})),
    treatment=Arm(Settings(), expect=Observation(x={treatment})))
def claim(lab: Lab) -> Observation:
    '''One is {treatment}.'''
    lab.step("Count.")
    {steps}
    return Observation(x=1)
"""


def twlab(*arguments, cwd=None, timeout=120, **environment):
    command = [sys.executable, "-m", "twlab", *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        timeout=timeout,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def claim(tmp_path):
    """Writes a scenario file; returns its path."""

    def write(control=1, treatment=1, steps="pass"):
        file = tmp_path / "claim.py"
        file.write_text(ALWAYS_WRONG.format(control=control, treatment=treatment, steps=steps))
        return file

    return write


@pytest.mark.parametrize(
    ("arguments", "status", "slug"),
    [
        (["run", "stale-dat"], 2, "no-such-scenario"),
        (["run"], 2, "nothing-to-run"),
        (["run", "stale-data", "--all"], 2, "nothing-to-run"),
        (["run", "stale-data", "--arm", "placebo", "--engine", "host"], 2, "no-such-arm"),
        (["run", "stale-data", "--set", "speed=1", "--engine", "host"], 2, "no-such-setting"),
        (["run", "stale-data", "--set", "time_wait_s=-1", "--engine", "host"], 2, "bad-setting"),
        (["run", "stale-data", "--set", "time_wait_s=abc", "--engine", "host"], 2, "bad-setting"),
        (["run", "stale-data", "--engine", "moon"], 2, "no-such-engine"),
        (["run", "stale-data", "--engine", "host", "--kernel", "7.3"], 2, "kernel-on-host"),
        (["run", "stale-data", "--kernel", "seven"], 2, "bad-kernel"),
        (["run", "stale-data", "--kernel", "1.0"], 3, "no-lab-kernel"),
        (["sweep", "stale-segment", "--kernel", "1.0"], 3, "no-lab-kernel"),
        (["ceiling", "--kernel", "1.0"], 3, "no-lab-kernel"),
        (["alternatives", "--kernel", "1.0"], 3, "no-lab-kernel"),
        (["grade", "nowhere", "--assignment", "nowhere.toml", "--kernel", "1.0"], 3, "no-lab-kernel"),
        (["shell", "pair", "--kernel", "1.0"], 3, "no-lab-kernel"),
        (["kernel", "info", "--kernel", "1.0"], 3, "no-lab-kernel"),
        (["kernel", "boot", "--kernel", "1.0"], 3, "no-lab-kernel"),
        (["kernel", "build", "--version", "1.0"], 3, "no-kernel-source"),
        (["run", "stale-data", "--engine", "host", "--out", "/proc/nowhere"], 3, "cannot-write"),
        (["run", "nowhere.py", "--engine", "host"], 2, "broken-scenario-file"),
        (["run", ROOT / "tests" / "data" / "no_topology.py", "--engine", "host"], 2, "broken-topology-file"),
        (["explain", "stale-dat"], 2, "no-such-scenario"),
        (
            ["run", "--speed"],
            2,
            "twlab run has no option --speed; did you mean '--seed'? [no-such-option]\n  remedy: see: twlab run --help",
        ),
        (["fly"], 2, "[no-such-command]\n  remedy: see: twlab --help"),
        (["lst"], 2, "did you mean 'list'? [no-such-command]"),
        (["kernel", "bild"], 2, "did you mean 'build'? [no-such-command]\n  remedy: see: twlab kernel --help"),
        (["run", "x", "--seed"], 2, "[missing-argument]\n  remedy: see: twlab run --help"),
        (["run", "x", "--seed", "x"], 2, "a whole number is needed [bad-value]\n  remedy: see: twlab run --help"),
        (["list", "more"], 2, "[bad-usage]\n  remedy: see: twlab list --help"),
        (["help", "fly"], 2, "[no-such-command]"),
        (["run", "stale-dat"], 2, "did you mean 'stale-data'?"),
        (["run", "stale-data", "--arm", "tretment"], 2, "did you mean 'treatment'? [no-such-arm]"),
        (["run", "stale-data", "--set", "time_wait=1"], 2, "did you mean 'time_wait_s'? [no-such-setting]"),
        (["shell", "pir"], 2, "did you mean 'pair'? [no-such-topology]"),
        (["alternatives", "tw-reus"], 2, "did you mean 'tw-reuse'? [no-such-alternative]"),
        (["show", RUN, "--arm", "contrl"], 2, "did you mean 'control'? [no-such-arm]"),
        (["kernel", "build", "--source", "/nowhere"], 2, "remedy"),
        # Digits of other scripts are no numbers, wherever one is read; int() would take them.
        (["run", "stale-data", "--seed", "\u0663"], 2, "[bad-value]"),
        (["plan", "--rate", "\u0665\u0660"], 2, "[bad-value]"),
        (["run", "stale-data", "--set", "time_wait_s=\u0661"], 2, "[bad-setting]"),
        (["run", "stale-data", "--set", "family=\u0664"], 2, "[bad-setting]"),
        (["run", "stale-data", "--set", "time_wait_s=1_0"], 2, "[bad-setting]"),
        (["plan", "--ports", "\u0661-\u0669"], 2, "[bad-plan]"),
        (["shell", "nat,clients=\u0662"], 2, "[bad-topology-option]"),
        # Where results cannot be written, nothing is measured first.
        (["alternatives", "tw-reuse", "--out", "/proc/nowhere"], 3, "[cannot-write]"),
        (["sweep", "stale-segment", "--out", "/proc/nowhere/x.json"], 3, "[cannot-write]"),
        (["ceiling", "--out", "/proc/nowhere"], 3, "[cannot-write]"),
        (["report", RUN, "--out", "/proc/nowhere/x.html"], 3, "[cannot-write]"),
        (["plan", "--out", "/proc/nowhere/x.html"], 3, "[cannot-write]"),
        (["shell", "pair", "--out", "/proc/nowhere"], 3, "[cannot-write]"),
        (["show", RUN / "control.pcapng"], 2, "is a capture, not a result of twlab [foreign-result]"),
        (["report", ROOT / "README.md"], 2, "is a text, not a result of twlab [foreign-result]"),
    ],
)
def test_bad_input_gets_one_message_with_a_remedy(arguments, status, slug, tmp_path):
    """The right status, one message on standard error that names the remedy, nothing on standard
    output, no traceback.
    """
    done = twlab(*arguments, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert slug in done.stderr
    assert "remedy:" in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_list_and_explain_run_nothing():
    """They read the scenarios only."""
    assert "stale-data" in twlab("list").stdout
    assert json.loads(twlab("list", "--json").stdout)[0]["arms"]
    page = twlab("explain", "stale-data").stdout
    assert all(word in page for word in ("control", "remedy", "predicted", "RFC 1337", "time_wait_s"))


def test_help_shows_an_example():
    """Every command's help ends with one."""
    for command in (
        ["list"],
        ["explain"],
        ["run"],
        ["doctor"],
        ["kernel", "build"],
        ["kernel", "info"],
        ["kernel", "boot"],
    ):
        assert f"Example: twlab {' '.join(command)}" in " ".join(twlab(*command, "--help").stdout.split())


def test_help_and_version():
    """`twlab help COMMAND` is `twlab COMMAND --help`; --version names the version; without a
    command, the help and status 2.
    """
    assert twlab("help", "kernel", "build").stdout == twlab("kernel", "build", "--help").stdout
    assert twlab("help").stdout == twlab("--help").stdout != ""
    assert twlab("--version").stdout == f"twlab {__version__}\n"
    bare = twlab()
    assert (bare.returncode, bare.stdout) == (2, "") and bare.stderr.startswith("Usage: twlab")


def test_plain_text_where_there_is_no_terminal():
    """No escape sequences in a pipe."""
    assert "\x1b" not in twlab("explain", "stale-data").stdout


@pytest.mark.host
@pytest.mark.parametrize(
    ("control", "treatment", "verdict", "status"),
    [(1, 1, "SUPPORTED", 0), (1, 2, "REFUTED", 1), (2, 1, "INCONCLUSIVE", 1)],
)
def test_the_verdict_and_the_exit_status(claim, tmp_path, control, treatment, verdict, status):
    """A wrong prediction is REFUTED with status 1; a control that misbehaves, INCONCLUSIVE."""
    done = twlab("run", claim(control, treatment), "--engine", "host", "--json", "--out", tmp_path / "runs")
    (element,) = json.loads(done.stdout)
    assert (element["verdict"], done.returncode) == (verdict, status)
    assert element["arms"]["treatment"]["observed"] == {"x": 1}
    told = twlab("run", claim(control, treatment), "--engine", "host", "--out", tmp_path / "runs")
    assert verdict in told.stdout
    assert ("predicted 2, observed 1" in told.stdout) == (verdict != "SUPPORTED")


@pytest.mark.host
@pytest.mark.parametrize(
    ("steps", "slug"),
    [
        ("1/0", "internal-error"),
        ("lab['nobody']", "no-such-node"),
        ("return None", "checks-nothing"),
        ("lab.require(False, 'pigs fly')", "premise-failed"),
    ],
)
def test_a_scenario_that_fails_in_its_steps_is_inconclusive(claim, tmp_path, steps, slug):
    """What went wrong stands in the result; the user gets the story up to there."""
    done = twlab("run", claim(steps=steps), "--engine", "host", "--json", "--out", tmp_path / "runs")
    (element,) = json.loads(done.stdout)
    assert done.returncode == 1
    assert element["verdict"] == "INCONCLUSIVE"
    assert element["arms"]["control"]["error"]["slug"] == slug
    assert [
        entry["text"]
        for entry in read_result(Path(element["run"])).arms["control"].transcript
        if entry["kind"] == "step"
    ] == ["Count."]


@pytest.mark.host
def test_a_machine_that_can_run_no_arm_is_what_the_exit_status_speaks_of(tmp_path):
    """A stock kernel cannot prolong TIME_WAIT: status 3 where that is all that was asked, with the
    remedy.
    """
    done = twlab(
        "run", "stale-data", "--engine", "host", "--arm", "treatment", "--set", "time_wait_s=120", "--out", tmp_path
    )
    assert done.returncode == 3
    assert "time-wait-too-long" in done.stdout
    assert "remedy:" in done.stdout


@pytest.mark.host
def test_a_lab_that_is_killed_is_reported_as_that(claim, tmp_path):
    """Pid 1 of the lab ends itself: the arm says so, and the next one still runs."""
    done = twlab("run", claim(steps="import os; os._exit(3)"), "--engine", "host", "--json", "--out", tmp_path / "runs")
    (element,) = json.loads(done.stdout)
    assert {arm["error"]["slug"] for arm in element["arms"].values()} == {"lab-ended-early"}


@pytest.mark.host
def test_ctrl_c_ends_with_130_and_keeps_the_result(claim, tmp_path):
    """SIGINT while an arm sleeps: status 130, one line, the folder says which arms were not run."""
    command = [
        sys.executable,
        "-m",
        "twlab",
        "run",
        str(claim(steps="lab.sleep(60)")),
        "--engine",
        "host",
        "--out",
        str(tmp_path / "runs"),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "Count." in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "Traceback" not in rest
    (folder,) = (tmp_path / "runs").iterdir()
    assert json.loads((folder / "result.json").read_text())["arms"]["control"]["error"]["slug"] == "not-run"


@pytest.mark.host
def test_a_full_disk_is_one_message(claim, tmp_path):
    """Results go to a full device: status 3, a remedy, no traceback."""
    if os.getuid():
        pytest.skip("only root can mount a small disk")
    small = tmp_path / "small"
    small.mkdir()
    run = f"{sys.executable} -m twlab run {claim()} --engine host --out {small}/runs"
    script = f"mount -t tmpfs -o size=64k none {small} && head -c 60000 /dev/zero > {small}/full; exec {run}"
    done = subprocess.run(["unshare", "--mount", "/bin/sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode in (1, 3)
    assert "No space left" in done.stderr + done.stdout
    assert "remedy" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.guest
def test_the_kernel_that_was_asked_for_is_the_one_that_runs(tmp_path):
    """By series or by path, also where TWLAB_KERNEL names another; the result says which, and how
    to repeat it.
    """
    kernels = {
        row["series"]: row
        for row in json.loads(twlab("kernel", "list", "--json").stdout)
        if row["state"] == "built" and row["series"]
    }
    assert sum(row["default"] for row in kernels.values()) <= 1
    for series, row in list(kernels.items())[:1]:
        for wanted in (series, row["path"]):
            done = twlab(
                "run",
                "reordered-close",
                "--arm",
                "control",
                "--kernel",
                wanted,
                "--out",
                tmp_path,
                TWLAB_KERNEL="/bin/true",
            )
            assert done.returncode == 0, done.stderr
            result = read_result(max(tmp_path.iterdir()))
            assert result.kernel.startswith(row["version"])
            assert f"--kernel {wanted}" in result.command
            shutil.rmtree(max(tmp_path.iterdir()))


@pytest.mark.guest
def test_repeat_prints_the_counts(tmp_path):
    """`run --repeat`, on the lab kernel: a row for each scenario, and status 0 when all were
    supported.
    """
    done = twlab("run", "blind-reset", "--repeat", "3", "--arm", "control", "--out", tmp_path, "--json")
    (element,) = json.loads(done.stdout)
    assert done.returncode == 0
    assert element["verdicts"] == {"SUPPORTED": 3} and len(element["runs"]) == 1
