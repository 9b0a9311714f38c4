"""A user's own scenario file: what is wrong in it is named by its line, with what was probably
meant; what it prints is shown.
"""

import json
import subprocess
import sys

import pytest
import typing_at

from twlab import Arm, Observation, ScenarioError, Settings, UsageError
from twlab.catalogue import find_scenario
from twlab.network import load_topology
from twlab.overrides import Overrides
from twlab.run.arm import run_arm

HEAD = """
from twlab import Arm, Lab, Observation, Settings, scenario
ARM = Arm(Settings(), expect=Observation(reopened=True))
"""
DECORATED = "@scenario(topology='pair', control=ARM, treatment=ARM, reads='nothing')\n"
CLAIM = HEAD + DECORATED + "def claim(lab: Lab) -> Observation:\n    '''A claim.'''\n"


def twlab(*words, cwd, status):
    done = subprocess.run(
        [sys.executable, "-m", "twlab", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        timeout=600,  # ten seconds of processor time take long on a busy machine
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("import sys\nsys.exit(3)\n", "line 2: sys.exit(3)", "it ends the program: sys.exit(3)"),
        ("x = 1\ny = = 2\n", "line 2: y = = 2", "SyntaxError: invalid syntax"),
        ("x = 1\nprnt(x)\n", "line 2: prnt(x)", "did you mean 'print'?"),
        ("from twlab import Labb\n", "line 1: from twlab import Labb", "did you mean 'Lab'?"),
        (HEAD + "Settings(time_wait=1)\n", "line 4: Settings(time_wait=1)", "did you mean 'time_wait_s'?"),
        (HEAD + "Arm({'time_wait': 1}, expect={'x': 1})\n", "line 4: Arm(", "did you mean 'time_wait_s'?"),
        (HEAD + "Arm(Settings(), expects=Observation(x=1))\n", "line 4: Arm(", "did you mean 'expect'?"),
        (HEAD + "Arm(Settings(), expect=3)\n", "line 4: Arm(", "expect=3"),
        (HEAD + DECORATED + "def claim(lab):\n    return 1\n", "line 4: @scenario(", "has no docstring"),
        (HEAD + "raise KeyboardInterruptX\n", "line 4", "did you mean 'KeyboardInterrupt'?"),
        ("class End(BaseException): pass\nraise End('now')\n", "line 2: raise End", "End: now"),
    ],
)
def test_a_file_that_cannot_be_loaded_names_its_line(tmp_path, text, line, says):
    """For scenarios and topologies, by one loader; wrong usage, exit status 2."""
    file = tmp_path / "mine.py"
    file.write_text(text)
    for load in (find_scenario, load_topology):
        with pytest.raises(UsageError) as caught:
            load(str(file))
        assert f"(mine.py, {line}" in str(caught.value)
        assert says in str(caught.value)
    assert line in twlab("explain", file, cwd=tmp_path, status=2).stderr


def test_a_file_that_never_ends_is_ended(tmp_path):
    """An endless loop at the top of a file: one message, after seconds."""
    file = tmp_path / "mine.py"
    file.write_text("while True:\n    pass\n")
    said = twlab("explain", file, cwd=tmp_path, status=2).stderr
    assert "it is still computing after 10 s (mine.py, line " in said


def test_what_a_file_prints_when_it_is_loaded_stays_out_of_the_results(tmp_path):
    """It goes to standard error."""
    (tmp_path / "mine.py").write_text("print('loading')\n" + CLAIM + "    return Observation(reopened=True)\n")
    done = twlab("explain", "mine.py", cwd=tmp_path, status=0)
    assert "loading" in done.stderr
    assert "loading" not in done.stdout


def test_an_arm_takes_plain_dictionaries():
    """As the pytest marker does; what is neither is refused."""
    plain = Arm({"time_wait_s": 1}, expect={"reopened": True}, on={"server": {"timestamps": 0}})
    assert plain == Arm(
        Settings(time_wait_s=1), expect=Observation(reopened=True), on={"server": Settings(timestamps=0)}
    )
    assert isinstance(plain.expect, Observation)
    with pytest.raises(ScenarioError, match="bad-arm"):
        Arm(Settings(), expect=True)


def outcome(folder, steps):
    """In the sandbox: what comes of the control arm of a scenario with these steps."""
    from pathlib import Path

    file = Path(folder) / "mine.py"
    file.write_text(CLAIM + steps)
    made = find_scenario(str(file))
    found = run_arm(made, "control", Overrides(), seed=1, folder=Path("/run"), forced={})
    kept = ("observed", "ok", "error", "mismatches", "transcript")
    return {name: getattr(found, name) for name in kept}


@pytest.mark.host
@pytest.mark.parametrize(
    ("steps", "slug", "line", "says"),
    [
        ("    lab.slep(2)\n", "internal-error", "line 7: lab.slep(2)", "did you mean 'sleep'?"),
        ("    lab['servr']\n", "no-such-node", "line 7: lab['servr']", "did you mean 'server'?"),
        ("    lab.sleep(seconds=1)\n", "internal-error", "line 7: lab.sleep(seconds=1)", "unexpected keyword argument"),
        ("    lab.require(1 == 2, 'one is two')\n", "premise-failed", "line 7: lab.require(", "one is two"),
        (
            "    def inner():\n        return 1 / 0\n    inner()\n",
            "internal-error",
            "line 8: return 1 / 0",
            "ZeroDivisionError",
        ),
        (
            "    import sys\n    sys.exit(4)\n",
            "internal-error",
            "line 8: sys.exit(4)",
            "it ends the program: sys.exit(4)",
        ),
    ],
)
def test_an_error_in_the_steps_names_their_line(tmp_path, in_sandbox, steps, slug, line, says):
    """The result has the line and its text; the message has what was probably meant."""
    found = in_sandbox(outcome, str(tmp_path), steps)
    assert found["error"]["slug"] == slug
    assert found["error"]["where"].startswith(f"mine.py, {line}")
    assert says in found["error"]["message"]
    assert found["ok"] is None


@pytest.mark.host
def test_a_fact_that_is_never_reported_is_no_refutation(tmp_path, in_sandbox):
    """A misspelt fact: the arm is not carried out, and the message has the fact that was meant.
    What is contradicted is refuted all the same.
    """
    found = in_sandbox(outcome, str(tmp_path), "    return Observation(reopend=True, other=1)\n")
    assert found["ok"] is None
    assert found["error"]["slug"] == "never-reported"
    assert "reopened; did you mean 'reopend'?" in found["error"]["message"]
    assert found["observed"] == {"reopend": True, "other": 1}
    refuted = in_sandbox(outcome, str(tmp_path), "    return Observation(reopened=False)\n")
    assert refuted["ok"] is False
    assert refuted["error"] is None


@pytest.mark.host
def test_what_the_steps_print_is_shown(tmp_path, in_sandbox):
    """Line by line, in the transcript, and on the terminal; a flood of it is bounded."""
    found = in_sandbox(
        outcome,
        str(tmp_path),
        "    print('one', 2)\n    print('three', end='')\n    return Observation(reopened=True)\n",
    )
    assert [entry["text"] for entry in found["transcript"]] == ["prints: one 2", "prints: three"]
    found = in_sandbox(
        outcome, str(tmp_path), "    for _ in range(5000): print('x' * 9999)\n    return Observation(reopened=True)\n"
    )
    assert len(found["transcript"]) == 1001
    assert max(len(entry["text"]) for entry in found["transcript"]) < 2100


@pytest.mark.host
def test_a_run_shows_prints_and_lines(tmp_path):
    """As a user sees it, with the verdict; the JSON has the line, too."""
    (tmp_path / "mine.py").write_text(CLAIM + "    print('so far')\n    lab.slep(2)\n")
    done = twlab("run", "mine.py", "--arm", "control", "--engine", "host", cwd=tmp_path, status=1)
    assert "prints: so far" in done.stderr
    assert "at mine.py, line 8: lab.slep(2)" in done.stdout
    done = twlab("run", "mine.py", "--arm", "control", "--engine", "host", "--json", cwd=tmp_path, status=1)
    assert json.loads(done.stdout)[0]["arms"]["control"]["error"]["where"] == "mine.py, line 8: lab.slep(2)"


@pytest.mark.host
def test_an_endless_loop_in_the_steps_is_told_after_seconds(tmp_path):
    """Which arm, for how long, what the lab is doing, in which step, and how to end it."""
    (tmp_path / "mine.py").write_text(CLAIM + "    lab.step('Round and round.')\n    while True: pass\n")
    command = [sys.executable, "-m", "twlab", "run", "mine.py", "--engine", "host"]
    with subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        said = next((line for line in process.stderr if "of real time" in line), "")
        process.terminate()
    assert "claim control  nothing for 10 s of real time: a process in it computes without end" in said
    assert said.rstrip().endswith("in the step: Round and round.")


@pytest.mark.guest
def test_an_endless_loop_in_the_steps_ends_its_arm_in_the_lab_kernel(tmp_path):
    """Virtual time stands still: each arm is ended after seconds, and the story names the step."""
    (tmp_path / "mine.py").write_text(CLAIM + "    lab.step('Round and round.')\n    while True: pass\n")
    done = twlab("run", "mine.py", "--engine", "guest", cwd=tmp_path, status=1)
    assert "Round and round." in done.stdout + done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    arms = json.loads((folder / "result.json").read_text())["arms"]
    assert {arm["error"]["slug"] for arm in arms.values()} == {"guest-spins"}


@pytest.mark.host
def test_a_run_sets_one_node_and_takes_arms_by_role(tmp_path):
    """--set NODE:KEY=VALUE changes that node alone; --arm treatment runs every arm of that role;
    the result's command line repeats it.
    """
    arms = "treatment={'one': ARM, 'two': ARM}"
    (tmp_path / "mine.py").write_text(CLAIM.replace("treatment=ARM", arms) + "    return Observation(reopened=True)\n")
    words = ("run", "mine.py", "--arm", "treatment", "--set", "client:tw_reuse=1", "--engine", "host", "--no-report")
    twlab(*words, cwd=tmp_path, status=0)
    (folder,) = (tmp_path / "runs").iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert list(result["arms"]) == ["one", "two"]
    assert result["arms"]["two"]["settings"] == {"client": {"tw_reuse": 1}, "wire": {}, "server": {}}
    assert "--arm treatment --set client:tw_reuse=1" in result["command"]
    refused = twlab("run", "mine.py", "--set", "cleint:tw_reuse=1", "--engine", "host", cwd=tmp_path, status=2)
    assert "'cleint', which pair does not have; did you mean 'client'?" in refused.stderr


def test_explain_is_as_wide_as_the_terminal_and_is_paged(tmp_path):
    """Paragraphs are wrapped between words; a page longer than the terminal goes to the user's
    pager; in a pipe there is neither.
    """
    (tmp_path / "pager").write_text("#!/bin/sh\necho PAGED\ncat\n")
    (tmp_path / "pager").chmod(0o755)
    with typing_at.twlab(
        "explain", "stale-data", cwd=tmp_path, env={"PAGER": "./pager", "COLUMNS": "60", "LINES": "20"}
    ) as terminal:
        terminal.expect("PAGED")
        terminal.expect("reads")
        assert terminal.wait() == 0
    said = terminal.seen.decode()
    claim = said[said.index("When TIME_WAIT") : said.index("network")]
    lines = [line for line in claim.splitlines() if line]
    assert max(map(len, lines)) <= 60
    assert max(map(len, lines)) > 50
    assert "PAGED" not in twlab("explain", "stale-data", cwd=tmp_path, status=0).stdout


def test_explain_without_a_pager_prints(tmp_path):
    """What PAGER names may not be there."""
    with typing_at.twlab(
        "explain", "stale-data", cwd=tmp_path, env={"PAGER": "no-such-pager", "LINES": "20"}
    ) as terminal:
        terminal.expect("RFC 9293")
        assert terminal.wait() == 0
