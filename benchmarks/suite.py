"""The test suite of this tree beside another one's: how long the tests take that both have.

    .venv/bin/python benchmarks/suite.py OTHER

OTHER is another tree of twlab, set up for its tests (``git worktree add``, ``setup/install.sh
test``). A test is the same in both if its function and its parameters are called the same; where
its file is does not count. Each tree runs them as its own ``make test`` does, one tree after the
other, on a machine that should have nothing else to do. TWLAB_KERNEL_OTHER names a lab kernel for
OTHER, where its own does not run here.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent


def tests(tree: Path) -> dict[str, str]:
    """Return the tests of `tree`: their names without the file, to those with it."""
    command = [tree / ".venv/bin/pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    listed = subprocess.run(command, cwd=tree, env=environment(tree), capture_output=True, text=True, check=True)
    return {line.partition("::")[2]: line for line in listed.stdout.splitlines() if "::" in line}


def sessions(tree: Path) -> list[list[str]]:
    """Return the arguments of each call of pytest in the Makefile of `tree`."""
    makefile = (tree / "Makefile").read_text()
    return [shlex.split(found) for found in re.findall(r"\.venv/bin/pytest(.*)\$\(PYTEST_ARGS\)", makefile)]


def environment(tree: Path) -> dict[str, str]:
    """Return the environment for tests of `tree`: modules as they were compiled, its own lab kernel."""
    kernel = os.environ.get("TWLAB_KERNEL_OTHER", "") if tree != HERE else ""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **({"TWLAB_KERNEL": kernel} if kernel else {})}


def main(other: Path) -> None:
    # What a shell starts in the background ignores SIGINT, and so would the tests that press it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    found = {tree: tests(tree) for tree in (other, HERE)}
    shared = found[other].keys() & found[HERE].keys()
    took: dict[Path, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for tree, names in found.items():
            listed = Path(folder) / "listed"
            listed.write_text("\n".join(named for name, named in names.items() if name in shared))
            began_s = time.perf_counter()
            for arguments in sessions(tree):
                command = [tree / ".venv/bin/pytest", "-q", "-p", "no:cacheprovider", *arguments, f"@{listed}"]
                said = subprocess.run(
                    command, cwd=tree, env=environment(tree), stdout=subprocess.PIPE, text=True, check=False
                ).stdout
                print(f"{tree}: {said.splitlines()[-1]}", flush=True)
            took[tree] = time.perf_counter() - began_s
    print(f"{len(shared):,} tests: {took[other]:.0f} s, here {took[HERE]:.0f} s, {took[HERE] / took[other]:.2f} of it")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
