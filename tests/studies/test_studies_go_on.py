"""Ceiling, alternatives and grading: the same table whether interrupted, or on a Dask cluster."""

import importlib.util
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from classroom import ASSIGNMENT
from conftest import ROOT
from test_sweep import ON_DASK

from twlab import loop

CEILING = (
    *("ceiling", "--ports", "40000-40399", "--jobs", "2", "--out", "made"),
    *(word for seconds in (2, 3, 4, 5) for word in ("--time-wait", str(seconds))),
)
ROWS = ("time-wait-1", "linger-0", "wider-range", "tw-reuse")  # with few ports: each in a second or two
ALTERNATIVES = ("alternatives", *ROWS, "--ports", "50000-50199", "--no-judge", "--jobs", "2")
STUDIES = {"ceiling": CEILING, "alternatives": (*ALTERNATIVES, "--out", "made")}
TABLES = {"ceiling": ("json", "csv"), "alternatives": ("json", "csv", "md")}
ENVIRONMENT = {**os.environ, "NO_COLOR": "1"}


def twlab(*words: str, cwd: Path, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Start a command, which writes into the folder `cwd`."""
    cwd.mkdir(exist_ok=True)
    return subprocess.Popen(
        [*before, sys.executable, "-m", "twlab", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=ENVIRONMENT,
    )


def finished(process: subprocess.Popen[str]) -> str:
    """Wait for the end of a command that does well; what it printed."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def tables(study: str, folder: Path) -> dict[str, bytes]:
    """The table that a study left; nothing else but its pictures is there."""
    made = folder / "made"
    assert not (made / "unfinished.json").exists()
    assert not [file.name for file in made.iterdir() if file.name.startswith(".")]
    return {suffix: (made / f"{study}.{suffix}").read_bytes() for suffix in TABLES[study]}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """The tables of runs that are left alone."""
    found = {}
    for study, words in STUDIES.items():
        folder = tmp_path_factory.mktemp(study)
        finished(twlab(*words, cwd=folder))
        found[study] = tables(study, folder)
    return found


@pytest.mark.guest
@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_study_makes_the_same_table(
    study: str, end: signal.Signals, undisturbed: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    """Ended at random moments, and given again: to the byte what one run makes; a table is whole or
    not there at any moment.
    """
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    moments = random.Random(seed)
    for _ in range(2):
        process = twlab(*STUDIES[study], cwd=tmp_path)
        assert process.stderr
        process.stderr.readline()  # the first result, or the end
        loop.Loop().sleep(moments.uniform(0.0, 1.5))
        process.send_signal(end)
        process.communicate(timeout=60)
        for file in (tmp_path / "made").glob(f"{study}.*"):
            assert file.suffix in (".png", ".svg") or file.read_bytes().endswith(b"\n"), file
    finished(twlab(*STUDIES[study], cwd=tmp_path))
    for file in (tmp_path / "made").glob(".*.part"):
        file.unlink()  # of a write that kill -9 ended
    assert tables(study, tmp_path) == undisturbed[study]


@pytest.mark.guest
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="the package distributed is missing")
@pytest.mark.parametrize("study", STUDIES)
def test_a_dask_cluster_makes_the_same_table(
    study: str, undisturbed: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    """`--scheduler`, with two worker processes of a local cluster: the same to the byte."""
    program = tmp_path / "on_dask.py"
    program.write_text(ON_DASK)
    finished(twlab(*STUDIES[study], cwd=tmp_path, before=(sys.executable, str(program))))
    assert tables(study, tmp_path) == undisturbed[study]


@pytest.mark.guest
@pytest.mark.skipif(importlib.util.find_spec("distributed") is None, reason="the package distributed is missing")
def test_a_dask_cluster_gives_the_same_grades(tmp_path: Path) -> None:
    """The example class, here and on a local cluster."""
    program = tmp_path / "on_dask.py"
    program.write_text(ON_DASK)
    words = ("grade", str(ASSIGNMENT.parent / "submissions"), "--assignment", str(ASSIGNMENT), "--jobs", "2", "--json")
    here, there = (twlab(*words, cwd=ROOT, before=before) for before in ((), (sys.executable, str(program))))
    printed = [process.communicate(timeout=300) for process in (here, there)]
    assert [process.returncode for process in (here, there)] == [0, 0], printed
    assert printed[0][0] == printed[1][0]
