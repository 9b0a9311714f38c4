"""The README says what is so: its commands exist, its links lead somewhere, and its folders are
there.
"""

import re
import subprocess
import sys

import pytest
from conftest import ROOT

README = (ROOT / "README.md").read_text()


def commands() -> list[str]:
    return sorted(
        {words for text in re.findall(r"^\| `twlab ([^`]+)`", README, re.MULTILINE) for words in spelled_out(text)}
    )


def spelled_out(text: str) -> list[str]:
    r"""`kernel build\|info` names `kernel build` and `kernel info`."""
    first, *rest = [word for word in text.split() if re.fullmatch(r"[a-z\\|]+", word)]
    return [f"{first} {word}" for word in rest[0].split(r"\|")] if rest else [first]


@pytest.mark.parametrize("command", commands())
def test_every_command_in_the_table_exists(command: str) -> None:
    """`--help` of it works."""
    subprocess.run(
        [sys.executable, "-m", "twlab", *command.split(), "--help"], capture_output=True, check=True, cwd=ROOT
    )


def test_every_command_there_is_stands_in_the_table() -> None:
    """A command that the README does not name is not found."""
    shown = subprocess.run(
        [sys.executable, "-m", "twlab", "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout
    offered = set(re.findall(r"^  ([a-z]+) ", shown.split("Commands:")[1], re.MULTILINE))
    assert offered == {command.split()[0] for command in commands()}


def test_every_link_leads_to_a_file() -> None:
    """Links within the repository."""
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_every_folder_in_the_layout_is_there() -> None:
    """The list under "Where things are"."""
    named = re.findall(r"^    ([a-z_/]+/) ", README, re.MULTILINE)
    assert named
    assert [folder for folder in named if not (ROOT / folder).is_dir()] == []
