"""docs/guides/is-it-time-wait.md: its sessions, its commands and its table of causes are true."""

import ast
import re
import shlex
import subprocess
import sys

import pytest
from command_lines import parsed
from conftest import ROOT

from twlab.diagnose.symptom_table import BY_NAME

PAGE = (ROOT / "docs" / "guides" / "is-it-time-wait.md").read_text()
SESSIONS = re.findall(r"^    \$ (twlab diagnose .+)\n((?:    .*\n)+)", PAGE, re.MULTILINE)
COMMANDS = sorted(set(re.findall(r"`twlab (diagnose[^`]*)`", PAGE)))


@pytest.mark.parametrize(("command", "shown"), SESSIONS)
def test_a_session_is_what_the_command_prints(command, shown):
    """Line for line, but for those that ``...`` stands for."""
    words = [sys.executable, "-m", *shlex.split(command)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True)
    printed = [line.rstrip() for line in done.stdout.splitlines()]
    at = 0
    for block in "\n".join(line[4:].rstrip() for line in shown.splitlines()).split("..."):
        lines = [line for line in block.strip("\n").split("\n") if line or block.strip()]
        if lines == [""]:
            continue
        places = [start for start in range(at, len(printed)) if printed[start : start + len(lines)] == lines]
        assert places, f"{lines} is not in:\n" + "\n".join(printed[at:])
        at = places[0] + len(lines)


def test_there_are_three_sessions():
    """And each leaves something out, else this would hold nothing."""
    assert len(SESSIONS) == 3


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_given(command):
    """It parses."""
    assert parsed(shlex.split(command))


def test_every_cause_stands_in_the_table_and_no_other():
    """Names that programs may rely on."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "twlab" / "diagnose").glob("*causes.py")]
    found = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Finding":
            first = node.args[0]
            found |= {part.value for part in ast.walk(first) if isinstance(part, ast.Constant)}
    found |= {"close-wait", "fin-wait2", "syn-sent"}
    balancers = ast.parse((ROOT / "twlab" / "diagnose" / "balancer_causes.py").read_text())
    found |= {part.value for part in ast.walk(balancers) if isinstance(part, ast.Constant)} & set(BY_NAME)
    rows = re.findall(r"^\| (`[a-z0-9-]+`(?:, `[a-z0-9-]+`)*) \|", PAGE, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"[a-z0-9-]+", row)} == found
