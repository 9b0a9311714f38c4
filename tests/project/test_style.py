"""Style is tested like everything else: what the linters and the type checker find is a failure."""

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

SHELL_SCRIPTS = sorted(
    path
    for path in (*ROOT.glob("*/*.sh"), *ROOT.glob("twlab/**/*.sh"), ROOT / ".ci" / "run")
    if ".venv" not in path.parts and "build" not in path.relative_to(ROOT).parts
)


def check(*command: str | Path) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_finds_nothing(tmp_path: Path) -> None:
    """Every Python file follows the rules in pyproject.toml."""
    check(sys.executable, "-m", "ruff", "check", "--cache-dir", tmp_path, ".")


@pytest.mark.slow
def test_mypy_finds_nothing(tmp_path: Path) -> None:
    """The type hints of the product are complete, and hold."""
    check(sys.executable, "-m", "mypy", "--cache-dir", tmp_path)


def test_shellcheck_finds_nothing() -> None:
    """Every shell script is free of what shellcheck warns of."""
    try:
        check("shellcheck", *SHELL_SCRIPTS)
    except FileNotFoundError:
        pytest.skip("shellcheck is not installed: apt-get install shellcheck")
