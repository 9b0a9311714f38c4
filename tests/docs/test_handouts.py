"""The handouts, done from top to bottom as a student would: every command is run, every output and
every figure is held against it.

In a handout a block marked ``console`` is a session: a line ``$ command``, then what it prints,
where ``...`` stands for anything and runs of blanks count as one. A block whose first line is ``#
file: NAME`` is a file that the student writes. Any other number of two or more digits in the text
has to occur in what a command of the same handout printed.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

FOLDER = ROOT / "docs" / "handouts"
SOLUTIONS = ROOT / "docs" / "teachers" / "solutions"
HANDOUTS = sorted(FOLDER.glob("[1-8]-*.md"))
ASSIGNMENTS = sorted(FOLDER.glob("[1-8]-*.toml"))
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# What is no result: a standard's number, a duration of the lesson, a year, a power of two, a name
# with digits in it.
NO_RESULT = re.compile(
    r"RFC \d+|section [\d.]+|\d+ min\b|`[^`]*`|\]\([^)]*\)|^#.*$|Linux [\d.]+|2\^\d+|Debian \d+"
    r"|in (?:19|20)\d\d",
    re.MULTILINE,
)


def shell(command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HANDOUTS": str(FOLDER)}
    return subprocess.run(
        ["bash", "-c", command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )


def session(text: str) -> list[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines it is said to print. A command goes on
    where its line ends in a backslash.
    """
    commands: list[tuple[str, list[str]]] = []
    for line in text.replace("\\\n", "").splitlines():
        if line.startswith("$ "):
            commands.append((line[2:], []))
        elif line.strip():
            commands[-1][1].append(" ".join(line.split()))
    return commands


def missing(expected: list[str], printed: str) -> list[str]:
    """Those of the expected lines that do not occur in the output, in order."""
    lines = iter([" ".join(line.split()) for line in printed.splitlines()])
    absent = []
    for wanted in expected:
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in wanted.split("...")))
        if wanted != "..." and not any(pattern.search(line) for line in lines):
            absent.append(wanted)
    return absent


def test_there_are_eight_and_each_has_its_assignment() -> None:
    """Eight sessions, in order, with questions that can be checked and a solution to them."""
    assert [path.name[0] for path in HANDOUTS] == list("12345678")
    assert [path.stem for path in ASSIGNMENTS] == [path.stem for path in HANDOUTS]
    assert [path.stem for path in sorted(SOLUTIONS.glob("*.toml"))] == [path.stem for path in HANDOUTS]


@pytest.mark.parametrize("handout", HANDOUTS, ids=lambda path: path.stem)
def test_a_handout_has_its_parts(handout: Path) -> None:
    """Goals, time, predict - run - explain, questions, one open question, what to hand in, and the
    kernel its results hold for.
    """
    text = handout.read_text()
    for part in (
        "**Goals.**",
        "**Time.**",
        "## Predict",
        "## Run",
        "## Explain",
        "## Questions",
        "## Hand in",
        "**Holds for.**",
    ):
        assert part in text, part


@pytest.mark.guest
@pytest.mark.slow
@pytest.mark.parametrize("handout", HANDOUTS, ids=lambda path: path.stem)
def test_a_handout_does_what_it_says(handout: Path, tmp_path: Path) -> None:
    """Each command ends well and prints what the handout shows; each figure in the text comes from
    one of them.
    """
    text = handout.read_text()
    printed = ""
    for kind, content in BLOCK.findall(text):
        if content.startswith("# file: "):
            first, _, rest = content.partition("\n")
            (tmp_path / first.removeprefix("# file: ")).write_text(rest)
        elif kind == "console":
            for command, expected in session(content):
                done = shell(command, tmp_path)
                assert done.returncode == (1 if "REFUTED" in " ".join(expected) else 0), (
                    command,
                    done.stdout,
                    done.stderr,
                )
                assert missing(expected, done.stdout) == [], (command, done.stdout)
                printed += done.stdout
    prose = NO_RESULT.sub(" ", BLOCK.sub("", text))
    figures = set(re.findall(r"(?<![\w.,])\d[\d,]*\.?\d+", prose))
    known = printed.replace(",", "")
    assert {figure for figure in figures if figure.replace(",", "") not in known} == set()


@pytest.mark.guest
@pytest.mark.slow
@pytest.mark.parametrize("assignment", ASSIGNMENTS, ids=lambda path: path.stem)
def test_the_teachers_solution_gets_every_point(assignment: Path, tmp_path: Path) -> None:
    """The solution is graded like a student's answers; what a person has to read counts apart."""
    solution = SOLUTIONS / assignment.name
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "answers.toml").write_bytes(solution.read_bytes())
    for own in SOLUTIONS.glob(f"{assignment.stem}*.py"):
        (tmp_path / "teacher" / "mine.py").write_bytes(own.read_bytes())
    done = shell(f"twlab grade {tmp_path / 'teacher'} --assignment {assignment} --json", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    marks = json.loads(done.stdout)["students"][0]["marks"]
    assert [mark for mark in marks if mark["kind"] != "open" and mark["points"] != mark["of"]] == []
