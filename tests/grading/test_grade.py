"""`twlab grade` on the lab kernel: a class with attackers in it, the same result each time, and
nothing reached from a scenario file.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from classroom import ASSIGNMENT, SCENARIO, SLOW, answers, make
from conftest import ROOT, as_user
from leftovers import wait_for

from twlab.engines.guest import engine
from twlab.engines.guest.engine import Guest, built_kernel
from twlab.errors import EngineError
from twlab.grading.assignment import load_assignment
from twlab.grading.driver import result_of
from twlab.grading.jail import GONE

pytestmark = pytest.mark.guest

EXAMPLE = ASSIGNMENT.parent / "submissions"
COMMAND = [sys.executable, "-m", "twlab", "grade"]
FROM_EXAMPLE = ["--assignment", str(ASSIGNMENT)]


def grade(*arguments: object, user: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """`twlab grade`, finished."""
    command = [*as_user(user), *COMMAND, *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **options,
    )


def points(book: dict[str, Any]) -> dict[str, float]:
    return {student["id"]: student["points"] for student in book["students"]}


def test_the_example(tmp_path: Path) -> None:
    """It is graded as one would expect, into both files; alone, a student has the same grade."""
    done = grade(EXAMPLE, *FROM_EXAMPLE, "--out", tmp_path / "grades.csv")
    assert done.returncode == 0, done.stderr
    book = json.loads((tmp_path / "grades.json").read_text())
    assert points(book) == {"ada": 13.0, "bob": 6.0, "cyd": 0.0}
    assert "bob,Bob Kahn,total,,6.0,13.0" in (tmp_path / "grades.csv").read_text()
    page = (ROOT / "docs" / "guides" / "grading.md").read_text()
    shown = page.partition("    $ twlab grade docs")[2].partition("\n")[2].partition("\n## ")[0]
    assert [line.strip() for line in done.stdout.splitlines()] == [line.strip() for line in shown.strip().splitlines()]
    alone = json.loads(grade(EXAMPLE / "bob", *FROM_EXAMPLE, "--json", "--jobs", 1).stdout)
    assert alone["students"] == [student for student in book["students"] if student["id"] == "bob"]
    assert [mark["shown"] for mark in alone["students"][0]["marks"]][:4] == [
        "reopened = no",
        "1882.13",
        "1",
        "these help: timestamps, one-way",
    ]


def test_as_an_ordinary_user(ordinary_user: str) -> None:
    """A teacher needs no root."""
    with tempfile.TemporaryDirectory() as own:
        Path(own).chmod(0o777)
        shutil.copytree(EXAMPLE, f"{own}/class")
        done = grade(f"{own}/class/ada.toml", *FROM_EXAMPLE, "--out", f"{own}/grades.json", user=ordinary_user)
        assert done.returncode == 0, done.stderr
        assert points(json.loads(Path(own, "grades.json").read_text())) == {"ada": 13.0}


@pytest.mark.slow
def test_a_class_of_forty(tmp_path: Path) -> None:
    """Every attack costs its own grade, and no other; what is graded already is not
    graded again.
    """
    (tmp_path / "class").mkdir()
    expected = make(tmp_path / "class")
    out = tmp_path / "grades.json"
    done = grade(tmp_path / "class", *FROM_EXAMPLE, "--out", out, timeout=500)
    assert done.returncode == 0, done.stderr
    assert points(json.loads(out.read_text())) == {
        name.removesuffix(".toml"): value for name, value in expected.items()
    }
    ended = [
        mark["remark"]
        for student in json.loads(out.read_text())["students"]
        if student["id"] in SLOW
        for mark in student["marks"]
    ]
    assert ended.count(f"control: {GONE}") == len(SLOW)
    assert "\x1b" not in out.read_text() + out.with_suffix(".csv").read_text()
    before, began_s = out.read_bytes(), sum(os.times()[2:4])
    assert grade(tmp_path / "class", *FROM_EXAMPLE, "--out", out).returncode == 0
    assert sum(os.times()[2:4]) - began_s < 20, "seconds of processor time: of a guest's work, this is none"
    assert out.read_bytes() == before


def test_an_interruption_loses_no_grade(tmp_path: Path) -> None:
    """Ctrl-C after the first grades: they are kept, nothing goes on, and the same command comes to
    what it would have come to at once.
    """
    whole, parts = tmp_path / "whole.json", tmp_path / "parts.json"
    assert grade(EXAMPLE, *FROM_EXAMPLE, "--out", whole).returncode == 0
    process = subprocess.Popen(
        [*COMMAND, str(EXAMPLE), *FROM_EXAMPLE, "--out", str(parts)],
        stderr=subprocess.PIPE,
        cwd="/",
        start_new_session=True,
    )
    assert process.stderr
    for line in process.stderr:
        if line.startswith(b"2/3"):
            break
    started = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) in (0, 130)
    process.stderr.close()
    assert wait_for(lambda: not alive(started))
    assert len(json.loads(parts.read_text())["students"]) >= 2
    assert grade(EXAMPLE, *FROM_EXAMPLE, "--out", parts).returncode == 0
    assert parts.read_bytes() == whole.read_bytes()


def test_killed(tmp_path: Path) -> None:
    """`kill -9` while a scenario computes without end: no process of it is left."""
    assignment = load_assignment(ASSIGNMENT)
    (tmp_path / "loop.toml").write_text(answers(assignment, "loop", mine='"loop.py"'))
    (tmp_path / "loop.py").write_text("while True: pass\n")
    process = subprocess.Popen(
        [*COMMAND, str(tmp_path), *FROM_EXAMPLE], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
    )
    kernel = os.fsencode(built_kernel())
    assert wait_for(lambda: any(command(pid).startswith(kernel) for pid in descendants(process.pid)), 30)
    time.sleep(1)
    started = descendants(process.pid)
    process.kill()
    process.wait()
    assert started
    assert wait_for(lambda: not alive(started))


@pytest.mark.parametrize(
    ("arguments", "status", "slug"),
    [
        ([str(EXAMPLE)], 2, "nothing-to-grade"),
        (FROM_EXAMPLE, 2, "nothing-to-grade"),
        ([str(EXAMPLE), *FROM_EXAMPLE, "--sheet", "ada"], 2, "nothing-to-grade"),
        (["/nowhere", *FROM_EXAMPLE], 2, "no-submissions"),
        ([str(EXAMPLE), "--assignment", "/nowhere"], 2, "no-assignment"),
        ([str(EXAMPLE), *FROM_EXAMPLE, "--out", "/proc/nowhere/grades.json"], 3, "cannot-write"),
    ],
)
def test_what_cannot_be_is_one_message(arguments: list[str], status: int, slug: str) -> None:
    """For the teacher: what is wrong, the remedy, the exit status."""
    done = grade(*arguments)
    assert (done.returncode, f"[{slug}]" in done.stderr, done.stderr.count("twlab:")) == (status, True, 1)
    assert "Traceback" not in done.stderr


def test_no_namespaces() -> None:
    """Where nothing would keep a stranger's code from the machine, it is not run."""
    refuse = 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all "$@"'
    command = [
        "unshare",
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        refuse,
        "sh",
        *COMMAND,
        str(EXAMPLE / "ada.toml"),
        *FROM_EXAMPLE,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert (done.returncode, "[no-namespaces]" in done.stderr) == (3, True)


def test_a_question_that_cannot_be_checked(tmp_path: Path) -> None:
    """The teacher named a fact that the arm does not show: he is told, by the exit status too, and
    no points are taken.
    """
    (tmp_path / "assignment.toml").write_text(ASSIGNMENT.read_text().replace('fact = "reopened"', 'fact = "reopend"'))
    (tmp_path / "ada.toml").write_text(answers(load_assignment(ASSIGNMENT), "ada", mine='""'))
    done = grade(tmp_path / "ada.toml", "--assignment", tmp_path / "assignment.toml")
    assert done.returncode == 1
    assert "could not be checked: the arm treatment shows no reopend" in done.stdout


def examine(text: str) -> dict[str, Any]:
    """What an examination of a scenario file reports."""
    return result_of({"kind": "examination", "text": text, "seed": 1})["report"]


LOOK = """
import os
def look(path):
    try:
        return sorted(os.listdir(path)) if os.path.isdir(path) else open(path, "rb").read(20).hex()
    except OSError as error:
        return error.strerror
def put(path):
    try:
        open(path, "ab").close()
        return "written"
    except OSError as error:
        return error.strerror
raise RuntimeError({})
"""


def told(expression: str) -> str:
    """What a scenario file finds that evaluates `expression`, with `look` and `put` and the module
    `os`.
    """
    problem = str(examine(LOOK.replace("{}", expression))["problem"])
    return problem.partition("RuntimeError: ")[2].partition(" (submission.py, line ")[0]


def test_a_scenario_reads_nothing_of_anybodys(tmp_path: Path) -> None:
    """No home, no project but the package, no other submission, no password, no other process: they
    are not there.
    """
    (tmp_path / "other.toml").write_text("x")
    hidden = [
        Path.home(),
        tmp_path,
        EXAMPLE,
        ASSIGNMENT,
        ROOT / "tests",
        ROOT / ".git",
        "/etc/shadow",
        "/etc/passwd",
        "/home",
        "/mnt",
        "/var/log",
    ]
    assert told(f"{{look(path) for path in {list(map(str, hidden))}}}") == "{'No such file or directory'}"
    own = (
        [ROOT.relative_to("/tmp").parts[0]] if ROOT.is_relative_to("/tmp") else []
    )  # where the package lies there, the way to it
    assert (
        told("look('/run'), look('/tmp'), [p for p in look('/proc') if p.isdigit()]")
        == f"(['submission.py'], {own}, ['1'])"
    )


def test_a_scenario_writes_nothing() -> None:
    """Neither files of the machine, nor the examiner's, nor the kernel's knobs; its own temporary
    files go with it.
    """
    places = [
        "/usr/x",
        f"{ROOT}/twlab/x",
        "/dev/x",
        "/dev/console",
        "/dev/kmsg",
        "/proc/sys/kernel/core_pattern",
        "/proc/sysrq-trigger",
        "/sys/x",
    ]
    found = told(f"[put(path) for path in {places}]")
    assert "written" not in found
    assert told("put('/tmp/x'), os.getuid(), len(os.listdir('/proc/self/fd')) < 9") == "('written', 0, True)"


def test_a_scenario_gets_no_rights() -> None:
    """Root of its own user namespace mounts no file system of the machine, and switches nothing
    off.
    """
    mount = "ctypes.CDLL(None).mount(b'none', b'/tmp', b'hostfs', 0, b'/')"
    umount = "ctypes.CDLL(None).umount2(b'/run', 2)"
    off = "ctypes.CDLL(None).reboot(0x4321FEDC)"
    assert told(f"(ctypes := __import__('ctypes')) and ({mount}, {umount}, {off})") == "(-1, -1, -1)"


def test_a_scenario_begins_with_its_memory_mapped() -> None:
    """No page faults one by one, none is locked, and what builds networks is loaded: else a
    submission costs nearly twice the processor time.
    """
    import_one, faults = "__import__('{}')", "__import__('resource').getrusage(0).ru_minflt"
    touched = f"(before := {faults}, {import_one.format('gc')}.collect(), {faults} - before < 100)[-1]"
    locked = "[line.split()[1] for line in open('/proc/self/status') if line.startswith('VmLck')]"
    loaded = f"'pyroute2.netlink.rtnl.ifinfmsg' in {import_one.format('sys')}.modules"
    assert told(f"({touched}, {locked}, {loaded})") == "(True, ['0'], True)"


def test_the_examiner_looks_for_itself() -> None:
    """Settings that are not in force, and arms in which nothing was sent, are found out against
    the scenario's own word.
    """
    template = SCENARIO.replace("{cut_s}", "5")
    honest = examine(template.replace("{trick}", "pass"))
    assert honest["arms"]["treatment"]["evidence"] | {"segments": 0} == {
        "differs": [],
        "segments": 0,
        "connections": 4,
        "time_wait": 0,
    }
    cheat = examine(template.replace("{trick}", "lab.network['client'].write_sysctl('net.ipv4.tcp_timewait_len', 1)"))
    assert cheat["arms"]["treatment"]["evidence"]["differs"] == ["client net.ipv4.tcp_timewait_len"]
    idle = examine(template.replace("{trick}", "return Observation(reopened=lab.settings['client'].time_wait_s < 60)"))
    assert [arm["evidence"]["segments"] for arm in idle["arms"].values()] == [0, 0]


def test_the_catalogue_is_examined_as_any_file() -> None:
    """A scenario of twlab's own, with nodes of all kinds, comes out as it does anywhere."""
    report = examine((ROOT / "twlab" / "scenarios" / "nat_leak.py").read_text())
    assert [arm["problem"] for arm in report["arms"].values()] == [""] * len(report["described"]["arms"])
    assert report["placebo"]


@pytest.fixture
def enclosed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A stranger's guest that sees the tests' own agent as well: what root in it can do is tried by
    that.
    """
    made = engine.enclosure

    def with_tests(*arguments: Any, **options: Any) -> dict[str, Any]:
        described = made(*arguments, **options)
        return described | {"view": [*described["view"], str(ROOT / "tests")]}

    monkeypatch.setattr(engine, "enclosure", with_tests)
    yield


def run_enclosed(folder: Path, do: str, *arguments: object, **options: Any) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    Guest(agent="guest_agent", memory_mib=256, processor_s=3, **options).run(
        {"do": do, "with": arguments}, folder, events.append, 60
    )
    return events[1:-1]


def test_root_of_a_strangers_guest_writes_nothing_of_the_machine(tmp_path: Path, enclosed: None) -> None:
    """Not even who breaks out of the cell and mounts what he likes: only the guest's own memory and
    its report take a file.
    """
    outside = [
        str(path)
        for path in (
            tmp_path / "x",
            Path.home() / "x",
            ROOT / "tests" / "x",
            ROOT / "twlab" / "x",
            "/usr/x",
            "/etc/x",
            "/x",
        )
    ]
    events = run_enclosed(tmp_path, "write", *outside)
    through_another_mount = [
        event["path"] for event in events if event["event"] == "wrote" and event["path"].startswith("/run/again")
    ]
    assert through_another_mount == []
    assert not any(Path(path).exists() for path in outside)


def test_root_of_a_strangers_guest_sees_nothing_of_the_machine(tmp_path: Path, enclosed: None) -> None:
    """Nothing of the machine's processes, users and homes is in its root file system."""
    with pytest.raises(EngineError) as caught:
        run_enclosed(tmp_path, "read", "/etc/shadow")
    assert "No such file" in caught.value.message


@pytest.mark.parametrize("do", ["spin", "wait"])
def test_a_strangers_guest_has_little_processor_time(tmp_path: Path, enclosed: None, do: str) -> None:
    """A guest that computes without end, or lets virtual time race, is ended by the kernel of the
    machine.
    """
    with pytest.raises(EngineError):
        run_enclosed(tmp_path, do)


def test_a_console_that_never_ends_fills_no_disk(tmp_path: Path, enclosed: None) -> None:
    """What the console says is kept up to a megabyte."""
    (tmp_path / "console.log").unlink(missing_ok=True)
    with pytest.raises(EngineError):
        run_enclosed(tmp_path, "shout")
    assert (tmp_path / "console.log").stat().st_size <= 1 << 20


def descendants(pid: int) -> list[int]:
    """All processes that descend from `pid`."""
    parents = {int(folder.name): parent for folder in Path("/proc").glob("[0-9]*") if (parent := parent_of(folder))}
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def parent_of(folder: Path) -> int:
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def alive(pids: list[int]) -> list[int]:
    """Those of them that are there and no zombies."""
    return [pid for pid in pids if command(pid)]
