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
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
# What leaves out all other tests. A shell's child in the background ignores SIGINT, and tests press it.
PLUGIN = """
import os, signal
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
SHARED = set(Path(os.environ["SHARED_TESTS"]).read_text().splitlines())
def pytest_collection_modifyitems(config, items):
    left_out = [item for item in items if item.nodeid.partition("::")[2] not in SHARED]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item.nodeid.partition("::")[2] in SHARED]
"""


def tests(tree: Path) -> set[str]:
    """Return the tests of `tree`, without their files."""
    command = [tree / ".venv/bin/pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    listed = subprocess.run(command, cwd=tree, env=environment(tree), capture_output=True, text=True, check=True)
    return {line.partition("::")[2] for line in listed.stdout.splitlines() if "::" in line}


def sessions(tree: Path) -> list[list[str]]:
    """Return the arguments of each call of pytest in the Makefile of `tree`."""
    makefile = (tree / "Makefile").read_text()
    return [shlex.split(found) for found in re.findall(r"\.venv/bin/pytest(.*)\$\(PYTEST_ARGS\)", makefile)]


def environment(tree: Path, more: dict[str, str] | None = None) -> dict[str, str]:
    """Return the environment for tests of `tree`: modules as they were compiled, its own lab kernel."""
    kernel = os.environ.get("TWLAB_KERNEL_OTHER", "") if tree != HERE else ""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, **({"TWLAB_KERNEL": kernel} if kernel else {}), **(more or {})}


def main(other: Path) -> None:
    shared = tests(other) & tests(HERE)
    took: dict[Path, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "shared_tests.py").write_text(PLUGIN)
        (listed := Path(folder) / "listed").write_text("\n".join(sorted(shared)))
        for tree in (other, HERE):
            env = environment(tree, {"PYTHONPATH": folder, "SHARED_TESTS": str(listed)})
            began_s = time.perf_counter()
            for arguments in sessions(tree):
                command = [tree / ".venv/bin/pytest", "-q", "-p", "shared_tests", "-p", "no:cacheprovider", *arguments]
                said = subprocess.run(command, cwd=tree, env=env, stdout=subprocess.PIPE, text=True, check=False).stdout
                print(f"{tree}: {said.splitlines()[-1]}", flush=True)
            took[tree] = time.perf_counter() - began_s
    print(f"{len(shared):,} tests: {took[other]:.0f} s, here {took[HERE]:.0f} s, {took[HERE] / took[other]:.2f} of it")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
