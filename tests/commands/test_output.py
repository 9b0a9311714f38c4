"""Standard output that is closed, full, cut off or of another encoding; standard error that takes
nothing; Ctrl-C.
"""

import json
import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT
from test_cli import ALWAYS_WRONG

TWLAB = f"{sys.executable} -m twlab"
RUN = ROOT / "tests" / "data" / "runs" / "stale-data"


def in_shell(script, cwd, **environment):
    """What bash does with `script`, in which $T is twlab."""
    words = ["bash", "-c", f"set -o pipefail; T='{TWLAB}'; {script}"]
    # The size of a pipe's buffer must not hide that there is no reader.
    return subprocess.run(
        words,
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


@pytest.mark.parametrize("command", ["list", "--version", f"show {RUN}", "plan --json", "help run"])
@pytest.mark.parametrize(("end", "why"), [(">&-", "is closed"), ("> /dev/full", "No space left on device")])
def test_output_that_cannot_be_written_is_one_message(tmp_path, command, end, why):
    """Status 3 and a remedy; nothing is left behind."""
    done = in_shell(f"$T {command} {end}", tmp_path)
    assert done.returncode == 3, done.stderr
    assert why in done.stderr and "[no-output]" in done.stderr and "remedy:" in done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["list", f"show {RUN} --unfold"])
def test_a_reader_that_goes_away_is_no_error(tmp_path, command):
    """`| head -1`, and a reader that reads nothing at all: status 0, nothing on standard error."""
    for reader in ("head -1", "true"):
        done = in_shell(f"$T {command} | {reader}", tmp_path)
        assert (done.returncode, done.stderr) == (0, "")


def test_closed_descriptors_are_opened_before_a_library_takes_their_numbers(tmp_path):
    """With libffi 3.8, unlike 3.4, importing ctypes opens libffi's own file for good, under the lowest
    free number: that file would be twlab's standard input.
    """
    words = "import sys, twlab.cli; assert 'ctypes' not in sys.modules"
    assert in_shell(f'{sys.executable} -c "{words}"', tmp_path).stderr == ""


@pytest.mark.parametrize("end", ["2>&-", "2>/dev/full", "<&-", "<&- 2>&-"])
def test_a_command_needs_neither_standard_error_nor_input(tmp_path, end):
    """What is printed and the status are as always; a complaint without a reader leaves its
    status.
    """
    assert in_shell(f"$T list {end}", tmp_path).stdout == in_shell("$T list", tmp_path).stdout
    assert in_shell(f"$T list --bogus {end}", tmp_path).returncode == 2


@pytest.mark.host
def test_files_never_get_a_closed_streams_number(tmp_path):
    """With standard error closed, a run is as whole as any: nothing that is said goes into its
    files.
    """
    (tmp_path / "claim.py").write_text(ALWAYS_WRONG.format(control=1, treatment=2, steps="pass"))
    done = in_shell("$T run claim.py --engine host --json 2>&- <&-", tmp_path)
    assert done.returncode == 1
    (element,) = json.loads(done.stdout)
    assert element["verdict"] == "REFUTED"
    assert json.loads((tmp_path / element["run"] / "result.json").read_text())["verdict"] == "REFUTED"
    assert in_shell("$T run claim.py --engine host | true", tmp_path).returncode == 1, (
        "the verdict's status, read or not"
    )


@pytest.mark.host
@pytest.mark.parametrize("encoding", ["latin-1", "ascii:strict"])
def test_letters_that_an_encoding_lacks_are_simpler_ones(tmp_path, encoding):
    """The verdict, its marks and the run's path are there: ✓ is +, ✗ is x, told apart."""
    (tmp_path / "claim.py").write_text(ALWAYS_WRONG.format(control=1, treatment=2, steps="pass"))
    done = in_shell("$T run claim.py --engine host", tmp_path, PYTHONIOENCODING=encoding)
    assert done.returncode == 1, done.stderr
    assert "REFUTED" in done.stdout and "+ control" in done.stdout and "x treatment" in done.stdout
    (folder,) = (tmp_path / "runs").iterdir()
    assert f"runs/{folder.name}" in done.stdout
    for command in ("plan", f"show {RUN}"):
        assert in_shell(f"$T {command}", tmp_path, PYTHONIOENCODING=encoding).returncode in (0, 3)


@pytest.mark.host
def test_a_run_whose_verdict_cannot_be_said_names_its_folder(tmp_path):
    """On a full standard output the run is done, and kept; the message says where."""
    (tmp_path / "claim.py").write_text(ALWAYS_WRONG.format(control=1, treatment=1, steps="pass"))
    done = in_shell("$T run claim.py --engine host > /dev/full", tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    assert done.returncode == 3
    assert "[no-output]" in done.stderr and f"runs/{folder.name}" in done.stderr


@pytest.mark.host
def test_ctrl_c_says_what_is_kept_and_where(tmp_path):
    """In the second arm: one of two arms is done, in the folder that is named."""
    steps = "lab.sleep(60 if lab.settings['client'].timestamps == 0 else 0)"
    text = ALWAYS_WRONG.format(control=1, treatment=1, steps=steps).replace(
        "treatment=Arm(Settings()", "treatment=Arm(Settings(timestamps=0)"
    )
    (tmp_path / "claim.py").write_text(text)
    command = [*TWLAB.split(), "run", "claim.py", "--engine", "host"]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as process:
        for line in process.stderr:
            if line.startswith("claim treatment") and "Count." in line:
                break
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    (folder,) = (tmp_path / "runs").iterdir()
    assert process.returncode == 130
    assert f"interrupted; kept in runs/{folder.name}: 1 of 2 arms" in rest
    assert "Traceback" not in rest


BRACKETS = """
from twlab import Arm, Observation, Settings, scenario

@scenario(
    topology="pair",
    control=Arm(Settings(), expect=Observation(x=1)),
    treatment={"a[b]": Arm(Settings(), expect=Observation(x=1))},
)
def claim(lab, *, of=["[red]"]):
    \"\"\"A [claim].\"\"\"
    return Observation(x=2)
"""


@pytest.mark.guest
def test_brackets_and_colons_in_names_are_printed_as_they_are(tmp_path):
    """In folders, files, arms and arguments; none is markup, or a name of an emoji."""
    (tmp_path / "mine.py").write_text(BRACKETS)
    for out in ("a[old]", "a[/b]", "a:ok:"):
        done = in_shell(f"$T run mine.py --out '{out}'", tmp_path)
        assert done.returncode == 1, done.stderr
        assert "✗ a[b]" in done.stdout and "claim, arm a[b]" in done.stdout
        assert (tmp_path / done.stdout.splitlines()[-1] / "result.json").is_file()
    done = in_shell("$T run fin-timeout-myth --arm control --repeat 2 --report --out 'a[old]'", tmp_path)
    assert "a[old]/20" in done.stdout
    assert "report: a[old]/report.html" in done.stdout and (tmp_path / "a[old]" / "report.html").is_file()
    said = in_shell("$T explain mine.py", tmp_path).stdout
    assert "treatment  a[b]" in said and "[red]" in said
    grid = "--grid time_wait_s=1 --grid delay_s=1 --grid timestamps=0 --trials 1"
    done = in_shell(f"$T sweep stale-segment {grid} --out 'b[old].json'", tmp_path)
    assert "b[old].json" in done.stdout.splitlines(), done.stdout + done.stderr
