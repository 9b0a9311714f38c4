"""The guest engine: an ordinary process that tells how it ended, keeps to one folder, and leaves
nothing.
"""

from __future__ import annotations

import json
import os
import pty
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, as_user
from leftovers import left_behind, processes_of

from twlab.catalogue import find_scenario
from twlab.engines.guest import liveness, userspace
from twlab.engines.guest.diagnosis import fault
from twlab.engines.guest.engine import EPOCH_S, Guest, built_kernel, clock_of
from twlab.engines.kernel import Kernel, recipe
from twlab.errors import CapabilityError, EngineError
from twlab.grading import driver
from twlab.overrides import Overrides
from twlab.run import runner
from twlab.run.runner import AGENT, Order

pytestmark = pytest.mark.guest

CALLER = """
import json, sys
from pathlib import Path
from twlab.engines.guest.engine import Guest

request, folder, limit_s = json.loads(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
Guest(agent="guest_agent").run(request, folder, lambda event: print(json.dumps(event), flush=True), limit_s)
"""


def facts_of(program: Path) -> dict[str, Any]:
    """What its build noted."""
    return Kernel(program).facts()


def run(
    folder: Path, do: str, *arguments: Any, limit_s: float = 120.0, seed: int = 1, **options: Any
) -> list[dict[str, Any]]:
    """What the stand-in agent reported, without the events that every run has."""
    events: list[dict[str, Any]] = []
    Guest(agent="guest_agent", **options).run(
        {"do": do, "with": arguments, "seed": seed}, folder, events.append, limit_s
    )
    assert (events[0]["event"], events[-1]["event"]) == ("start", "end")
    return events[1:-1]


def failure(folder: Path, do: str, *arguments: Any, **options: Any) -> EngineError:
    """How a run failed; the console log is kept then, and the error names it."""
    with pytest.raises(EngineError) as caught:
        run(folder, do, *arguments, **options)
    assert (folder / "console.log").exists()
    assert str(folder / "console.log") in caught.value.remedy
    return caught.value


def call(
    folder: Path, do: str, *arguments: Any, user: str = "", prefix: tuple[str, ...] = (), **options: Any
) -> subprocess.Popen[str]:
    """A process that runs a guest, as another user where `user` says so."""
    command = [
        *as_user(user),
        *prefix,
        sys.executable,
        "-c",
        CALLER,
        json.dumps({"do": do, "with": arguments}),
        str(folder),
        "30",
    ]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests' / 'support'}", **options.pop("env", {})}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd="/", env=environment, **options
    )


def kernel_of(tag: str) -> int:
    """Pid of the lab kernel among them; its children bear the same command line, so it is the
    first.
    """
    return min(
        pid for pid in processes_of(tag) if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(bytes(built_kernel()))
    )


def test_works_in_virtual_time(tmp_path: Path) -> None:
    """A minute's sleep takes a minute of the guest's time to the microsecond, under root's name,
    from a fixed date, and leaves no log.
    """
    (seen,) = run(tmp_path, "look_around")
    assert seen["slept_s"] == pytest.approx(60, abs=2e-6)
    assert (seen["uid"], seen["pid"], seen["python"]) == (0, 1, sys.version)
    assert seen["wall_s"] == pytest.approx(EPOCH_S, abs=2)
    assert list(tmp_path.iterdir()) == []


def test_only_the_folder_can_be_written_to(tmp_path: Path) -> None:
    """Not even root in the guest, who mounts what he likes, can change a file of the host outside
    the run's folder.
    """
    (tmp_path / "run").mkdir()
    (tmp_path / "theirs").write_text("as it was")
    outside = [
        str(path)
        for path in (tmp_path / "theirs", tmp_path / "new", Path("/dev/shm/new"), Path.home() / "new", ROOT / "new")
    ]
    events = run(tmp_path / "run", "write", *outside, str(tmp_path / "run" / "mine"))
    assert (tmp_path / "theirs").read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "theirs"]
    assert not any(Path(path).exists() for path in outside[1:])
    mine = tmp_path / "run" / "mine"
    assert mine.read_text() == "written in the guest"
    assert mine.stat().st_uid == os.getuid()
    # What is the sandbox's own takes a file, for as long as the sandbox lives.
    through_another_mount = {
        event["path"]: event["event"] for event in events if event["path"].startswith("/run/again/")
    }
    assert [path for path, outcome in through_another_mount.items() if outcome == "wrote"] == [
        "/run/again/dev/shm/new",
        f"/run/again{mine}",
    ]


def test_reads_what_lies_in_tmp(tmp_path: Path) -> None:
    """A scenario's file may lie in /tmp, where the guest has a file system of its own."""
    (tmp_path / "mine.py").write_text("a scenario")
    (tmp_path / "run").mkdir()
    assert run(tmp_path / "run", "read", str(tmp_path / "mine.py")) == [{"event": "read", "text": "a scenario"}]


def test_every_event_arrives_in_order(tmp_path: Path) -> None:
    """Thousands of events, a megabyte of them, arrive whole."""
    assert [event["number"] for event in run(tmp_path, "many", 2000)] == list(range(2000))


def test_what_the_agent_says_is_kept(tmp_path: Path) -> None:
    """A warning on standard error is in the log, which is there although all went well."""
    run(tmp_path, "mutter")
    assert "something of note" in (tmp_path / "console.log").read_text()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """Nothing is started where nothing could be written."""
    with pytest.raises(CapabilityError) as caught:
        run(tmp_path / "missing", "look_around")
    assert caught.value.slug == "cannot-write"


def test_no_kernel(tmp_path: Path) -> None:
    """A program that is no lab kernel has ended early."""
    assert failure(tmp_path, "look_around", kernel=Path("/bin/true")).slug == "guest-ended-early"


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    """Packets, their times and random numbers are the same for the same seed, and others for
    another.
    """
    first, again, other = (run(tmp_path, "converse", seed=seed)[0] for seed in (7, 7, 8))
    assert first == again
    assert first["value"] != other["value"]
    assert first["random"] != other["random"]


def test_same_command_same_result(tmp_path: Path) -> None:
    """A scenario's results and captures are the same to the byte, also if the machine is busy
    meanwhile.
    """
    outcomes = []
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        for name in ("first", "again"):
            folder = tmp_path / name
            folder.mkdir()
            jobs = [
                {"source": "stale-data", "arm": arm, "folder": str(folder), "set": {}}
                for arm in ("treatment", "timestamps")
            ]
            events: list[dict[str, Any]] = []
            Guest(agent=AGENT).run({"jobs": jobs, "seed": 1, "engine": "guest"}, folder, events.append, 60)
            outcomes.append((events, {path.name: path.read_bytes() for path in sorted(folder.iterdir())}))
    finally:
        for process in busy:
            process.kill()
            process.wait()
    assert outcomes[0] == outcomes[1]
    assert [event["result"]["ok"] for event in outcomes[0][0] if event["event"] == "arm"] == [True, True]


def test_panic(tmp_path: Path) -> None:
    """A kernel panic is reported as one, with its reason."""
    error = failure(tmp_path, "panic")
    assert error.slug == "guest-panicked"
    assert "sysrq" in error.message


@pytest.mark.parametrize(("do", "words"), [("spin", "computes without end"), ("wait", "virtual time races on")])
def test_hang(tmp_path: Path, do: str, words: str) -> None:
    """A guest that says nothing is ended, and what it was doing is told."""
    for silence_s in (1.5, 6.0, 24.0):  # where the machine is busy, a boot may take longer than the first
        events: list[dict[str, Any]] = []
        (tmp_path / "console.log").unlink(missing_ok=True)
        with pytest.raises(EngineError) as caught:
            Guest(agent="guest_agent", silence_s=silence_s).run({"do": do, "seed": 1}, tmp_path, events.append, 120)
        assert caught.value.slug == "guest-hung"
        assert f"{silence_s:g} s of real time without an event" in caught.value.message
        if events:
            break
    assert [event["event"] for event in events] == ["start"]
    assert words in caught.value.message
    assert str(tmp_path / "console.log") in caught.value.remedy


@pytest.mark.parametrize("do", ["spin_in_steps", "poll_in_steps"])
def test_a_guest_that_spins_at_one_instant_is_told_in_seconds(tmp_path: Path, do: str) -> None:
    """Of processor time, and only within the steps of an arm. Looking at the clock moves it on by
    some hundred ns: that is no progress.
    """
    assert clock_of(built_kernel()), "its build noted where its clock is"
    error = failure(tmp_path, do, silence_s=120, limit_s=120)
    assert error.slug == "guest-spins"
    assert "4 s of processor time at one instant of virtual time" in error.message


def test_computing_before_the_steps_may_take_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import, for instance; and so may steps whose virtual time goes on. Both compute for longer
    than a limit that is lowered here.
    """
    monkeypatch.setattr(liveness, "SPIN_S", 0.5)
    assert run(tmp_path, "compute_first", limit_s=200) == [{"event": "entry", "kind": "step"}, {"event": "done"}]


def test_a_heavy_load_is_no_spin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It computes for many times the limit, lowered here, while a hundredth of a second passes; but it
    waits in between.
    """
    monkeypatch.setattr(liveness, "SPIN_S", 0.3)
    said = [event["event"] for event in run(tmp_path, "load_in_steps", limit_s=200)]
    assert [event for event in said if event != "quiet"] == ["entry", "done"]  # on a busy machine: quiet, too


def look_twice(monkeypatch: pytest.MonkeyPatch, own_s: float, processes_s: float, passed_ns: int) -> None:
    """Between the first look at a guest and the second, it uses and passes so much."""
    figures = iter([liveness.Used(10.0, 5.0), liveness.Used(10.0 + own_s, 5.0 + processes_s)])
    times = iter([7, 7 + passed_ns])
    monkeypatch.setattr(liveness, "used", lambda kernel: next(figures))
    monkeypatch.setattr(liveness, "time_ns", lambda kernel, clock: next(times))


@pytest.mark.parametrize(
    ("own_s", "processes_s", "passed_ns", "slug"),
    [
        (3.1, 0.0, 0, "guest-storms"),
        (3.1, 0.2, 100 * 256, "guest-storms"),
        (2.9, 0.0, 0, ""),
        (3.1, 0.2, 4_000 * 256, ""),
        (3.9, 0.2, 4_000 * 256, "guest-spins"),
        (3.1, 0.5, 0, ""),
        (3.1, 1.0, 0, "guest-spins"),
        (3.1, 1.0, 1_600_000 * 256, "guest-spins"),
        (3.1, 1.0, 2_000_000 * 256, ""),
        (9.0, 9.0, 142_857, ""),
        (9.0, 0.0, 1_000, ""),
    ],
)
def test_a_kernel_that_computes_alone_storms(
    monkeypatch: pytest.MonkeyPatch, own_s: float, processes_s: float, passed_ns: int, slug: str
) -> None:
    """The processes of the guest do nothing but record it, and the clock stands still. With processes
    that run, it spins, also where they read the clock, which takes 256 ns. Where the clock has moved by
    anything else, all of the guest has waited: it has much to do, connects that walk through a full
    range of ports, for instance. It is what the figures say, and here they are given.
    """
    look_twice(monkeypatch, own_s, processes_s, passed_ns)
    watch = liveness.StandstillWatch(1, 2)
    assert watch.look(0, True) is None
    found = watch.look(0, True)
    assert (found.slug if found else "") == slug


@pytest.mark.parametrize(
    ("own_s", "processes_s", "passed_ns", "words"),
    [
        (0.2, 0.0, 0, "stands still while its kernel computes"),
        (0.2, 0.1, 156_250 * 256, "or a process in it polls"),
        (0.2, 0.1, 40_142_857, "goes on slowly"),
        (0.1, 0.2, 0, "a process in it computes without end"),
        (0.1, 0.2, 40_142_857, "goes on slowly"),
        (0.2, 0.0, 60_000_000_000, "virtual time races on"),
        (0.1, 0.2, 60_000_000_000, "virtual time races on"),
    ],
)
def test_a_silent_guest_is_told_by_its_processor_time_and_its_clock(
    monkeypatch: pytest.MonkeyPatch, own_s: float, processes_s: float, passed_ns: int, words: str
) -> None:
    """One that polls moves its clock on by what each reading takes: that is not the race from timer to
    timer in which everything waits. Where the clock races on nothing computes at one instant,
    however the host's ticks fall.
    """
    look_twice(monkeypatch, own_s, processes_s, passed_ns)
    assert words in liveness.pulse(1, 2)


@pytest.mark.parametrize(("ticks_s", "words"), [((0.0, 0.01, 0.06, 0.12), "computes"), ((0.0,) * 9, "it is stopped")])
def test_a_guest_that_gets_little_time_is_looked_at_for_longer(
    monkeypatch: pytest.MonkeyPatch, ticks_s: tuple[float, ...], words: str
) -> None:
    """The host counts processor time in ticks of 10 ms; one of them tells nothing."""
    figures = iter([liveness.Used(10.0, 5.0), *(liveness.Used(10.0, 5.0 + spent_s) for spent_s in ticks_s)])
    monkeypatch.setattr(liveness, "SAMPLE_S", 0.001)
    monkeypatch.setattr(liveness, "SAMPLES", len(ticks_s))
    monkeypatch.setattr(liveness, "used", lambda kernel: next(figures))
    monkeypatch.setattr(liveness, "time_ns", lambda kernel, clock: 7)
    assert words in liveness.pulse(1, 2)


def test_a_storm_is_told_as_one_and_costs_no_other_arm(tmp_path: Path) -> None:
    """A real one, at one instant of virtual time, in the guest's kernel alone: an acknowledgement of
    what was never sent is challenged since Linux 7.1, and nothing bounds it here.
    """
    if recipe.series(facts_of(built_kernel())["version"]) < (7, 1):
        pytest.skip("needs a lab kernel of Linux 7.1 or later")
    source = str(ROOT / "tests" / "data" / "storm.py")
    (done,) = runner.run(Order([(source, find_scenario(source))], out=tmp_path), Guest(agent=AGENT))
    arms = done.result.arms
    assert (arms["control"].ok, arms["after-it"].ok) == (True, True)
    assert arms["unlimited"].error is not None
    assert arms["unlimited"].error["slug"] == "guest-storms"
    assert "segments answer each other for ever" in arms["unlimited"].error["message"]
    assert "invalid_ratelimit_ms" in arms["unlimited"].error["remedy"]


def test_the_clock_is_read_from_outside(tmp_path: Path) -> None:
    """Where the build noted it, by a process that may trace the guest; nothing is read of a process
    that is gone, or where it is not known.
    """
    assert liveness.time_ns(os.getpid(), None) is None
    assert liveness.time_ns(2**22 + 1, 0x60000000) is None


def test_never_done(tmp_path: Path) -> None:
    """A guest that talks without end is ended when its real time is up."""
    assert failure(tmp_path, "talk", limit_s=2.0).slug == "guest-hung"


def test_out_of_memory(tmp_path: Path) -> None:
    """A guest that needs more memory than it has is reported as exactly that."""
    assert failure(tmp_path, "devour", memory_mib=96).slug == "guest-out-of-memory"


@pytest.mark.parametrize(
    ("do", "words"), [("stumble", "the agent stumbled"), ("leave", "exit status 3"), ("crash", "signal 11")]
)
def test_ends_early(tmp_path: Path, do: str, words: str) -> None:
    """An agent that raises, leaves or crashes has not done its work, in any state the kernel is
    in.
    """
    error = failure(tmp_path, do)
    assert error.slug == "guest-ended-early"
    assert words in error.message


@pytest.mark.parametrize("text", ["no JSON\n", '{"job": 1}\n', "[]\n", "\n", '{"event": "end"}\n', "\xff\n"])
def test_garbled(tmp_path: Path, text: str) -> None:
    """A line that is no event, or comes after the last, is no result."""
    assert failure(tmp_path, "babble", text).slug == "guest-garbled"


NO_NAMESPACES = 'echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all "$@"'
WITHOUT_NAMESPACES = ("unshare", "--user", "--map-root-user", "sh", "-c", NO_NAMESPACES, "sh")


@pytest.fixture(params=["sandbox", "no-namespaces"])
def prefix(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """What makes a caller run on a machine that allows namespaces, and on one that refuses them."""
    return () if request.param == "sandbox" else WITHOUT_NAMESPACES


@pytest.mark.parametrize("do", ["wait", "spin"])
def test_kernel_killed(tmp_path: Path, prefix: tuple[str, ...], do: str) -> None:
    """A kernel that is killed has ended early, and none of the guest's processes goes on."""
    tag = f"TWLAB_TEST={random.random()}"
    with call(tmp_path, do, prefix=prefix, env=dict([tag.split("=")])) as caller:
        assert caller.stdout is not None
        caller.stdout.readline()
        os.kill(kernel_of(tag), signal.SIGKILL)
        _, errors = caller.communicate(timeout=20)
    assert "guest-ended-early" in errors
    assert processes_of(tag) == []


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can reach and write to."""
    folder = Path(tempfile.mkdtemp(prefix="twlab-test-", dir="/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("how", ["sandbox", "no-namespaces", "ordinary-user"])
def test_killed_at_any_moment_nothing_is_left(public: Path, how: str, request: pytest.FixtureRequest) -> None:
    """Whenever the caller is killed, nothing of the guest lives on: no process, and no file outside
    the run's folder.
    """
    user = request.getfixturevalue("ordinary_user") if how == "ordinary-user" else ""
    prefix = WITHOUT_NAMESPACES if how == "no-namespaces" else ()
    temporary, folder = public / "tmp", public / "run"
    for path in (temporary, folder):
        path.mkdir()
        path.chmod(0o777)
    shared = set(os.listdir("/dev/shm"))
    for delay_s in (0.0, 0.05, 0.15, 0.3, 0.6, random.uniform(0, 1)):
        tag = f"TWLAB_TEST={random.random()}"
        environment = {**dict([tag.split("=")]), "TMPDIR": str(temporary)}
        with call(folder, "spin", user=user, prefix=prefix, env=environment, start_new_session=True) as caller:
            time.sleep(delay_s)
            caller.kill()
        assert not left_behind(tag, 10), delay_s
    assert list(temporary.iterdir()) == []
    assert set(os.listdir("/dev/shm")) == shared


def test_as_an_ordinary_user(public: Path, ordinary_user: str) -> None:
    """An ordinary user without a home runs it, is root inside, and owns what comes out."""
    mine = public / "mine"
    with call(public, "write", str(mine), "/etc/new", user=ordinary_user) as caller:
        text, errors = caller.communicate(timeout=30)
    assert caller.returncode == 0, errors
    assert {"event": "wrote", "path": str(mine)} in [json.loads(line) for line in text.splitlines()]
    assert mine.owner() == ordinary_user or not ordinary_user


def test_without_namespaces(tmp_path: Path) -> None:
    """Where the machine refuses namespaces the guest runs all the same, and leaves nothing in the
    run's folder.
    """
    with call(tmp_path, "look_around", prefix=WITHOUT_NAMESPACES) as caller:
        text, errors = caller.communicate(timeout=30)
    assert caller.returncode == 0, errors
    assert '"event": "end"' in text
    assert list(tmp_path.iterdir()) == []


def test_several_at_once(tmp_path: Path) -> None:
    """Guests do not meet."""
    folders = [tmp_path / str(number) for number in range(3)]
    for folder in folders:
        folder.mkdir()
    callers = [call(folder, "look_around") for folder in folders]
    for caller in callers:
        text, errors = caller.communicate(timeout=60)
        assert caller.returncode == 0, errors
        assert '"slept_s": 60.0' in text


def test_interrupted(tmp_path: Path, prefix: tuple[str, ...]) -> None:
    """Ctrl-C ends the guest at once."""
    tag = f"TWLAB_TEST={random.random()}"
    with call(tmp_path, "wait", prefix=prefix, env=dict([tag.split("=")])) as caller:
        assert caller.stdout is not None
        caller.stdout.readline()
        caller.send_signal(signal.SIGINT)
        caller.wait(timeout=10)
    assert processes_of(tag) == []


@pytest.mark.parametrize(
    ("last_words", "slug"),
    [
        ("Kernel panic - not syncing: Fatal exception", "guest-panicked"),
        ("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000009", "guest-ended-early"),
        ("Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled", "guest-out-of-memory"),
        ("Kernel panic - not syncing: Kernel mode signal 7", "guest-out-of-memory"),
    ],
)
def test_a_panic_after_the_work_is_no_success(last_words: str, slug: str) -> None:
    """A kernel that panicked is not believed, nor its reports before."""
    found = fault(f"{last_words}\n[<6002f36f>] ? userspace+0x40e/0x4bb\n", 0, garbled="", ended=True)
    assert found is not None
    assert found.slug == slug


def test_a_clean_end_is_no_fault() -> None:
    """What the lab kernel says as it leaves is not held against it."""
    assert (
        fault("reboot: Power down\nremove_umid_dir - remove_files_and_dir failed\n", 0, garbled="", ended=True) is None
    )


SHELL = (sys.executable, "-c", "import sys; from twlab.engines.guest.boot_shell import shell; sys.exit(shell())")


def test_shell_passes_on_what_it_printed_and_its_status() -> None:
    """A shell in the lab kernel carries out its standard input and ends with the shell's own
    status.
    """
    script = "uname -n; id -u; touch /etc/new || exit 7\n"
    done = subprocess.run(SHELL, input=script, capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)
    assert done.stdout.splitlines()[:2] == ["lab-kernel", "0"], done
    assert "Read-only" in done.stdout
    assert done.returncode == 7


def test_shell_on_a_terminal() -> None:
    """On a terminal the shell has its size and job control, Ctrl-C is the shell's, and the terminal
    is as before afterwards.
    """
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (33, 101))
    before = termios.tcgetattr(theirs)
    shown = ""

    def type_after(prompt: str, text: str) -> None:
        nonlocal shown
        while prompt not in shown:
            assert select.select([ours], [], [], 20)[0], shown
            shown += os.read(ours, 1 << 12).decode()
        shown = shown.partition(prompt)[2]
        os.write(ours, text.encode())

    with subprocess.Popen(SHELL, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT) as process:
        type_after("# ", "stty size\r")
        # One program that says it runs, so that Ctrl-C finds it running. What the terminal echoes
        # is not what it prints.
        type_after("33 101", "sh -c 'echo be\"\"gun; exec sleep 100'\r")
        type_after("begun", "\x03")
        type_after("# ", "exit 5\r")
        assert process.wait(timeout=20) == 5
    assert termios.tcgetattr(theirs) == before
    os.close(ours)
    os.close(theirs)


def mode_of(folder: Path, **options: Any) -> str:
    """What the kernel said, in a run whose log is kept, of how it runs the guest's processes."""
    (folder / "console.log").unlink(missing_ok=True)
    with suppress(EngineError):  # a confined guest does not see the stand-in
        run(folder, "mutter", **options)
    log = (folder / "console.log").read_text()
    return "seccomp" if "seccomp filters can be installed...OK" in log else "ptrace" if "ptrace" in log else "?"


def test_the_guest_runs_by_seccomp_where_it_can(tmp_path: Path) -> None:
    """Linux 6.16 and later; ptrace where that is asked for, and for a confined guest: a stranger
    could reach all of the guest's memory.
    """
    wanted = "seccomp" if recipe.series(facts_of(built_kernel())["version"]) >= (6, 16) else "ptrace"
    assert userspace.knows_seccomp(built_kernel()) == (wanted == "seccomp")
    assert mode_of(tmp_path) == wanted
    assert mode_of(tmp_path, traced=True) == "ptrace"
    assert mode_of(tmp_path, processor_s=20) == "ptrace"


def test_grading_is_traced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both kinds of task: the stranger's own scenario, and the teacher's, which runs with a
    stranger's numbers.
    """
    made: list[Guest] = []
    monkeypatch.setattr(Guest, "run", lambda self, *_: made.append(self))
    driver.result_of({"kind": "examination", "text": "", "seed": 1})
    driver.result_of({"kind": "trial", "source": "stale-data", "arms": ["control"], "sets": [], "seed": 1})
    assert len(made) == 2
    assert not any(guest.by_seccomp for guest in made)


def test_a_machine_without_seccomp_filters_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run goes on, traced."""
    if not userspace.knows_seccomp(built_kernel()):
        assert not Guest().by_seccomp
        return
    monkeypatch.setattr("twlab.engines.guest.engine.fell_back", lambda console: True)
    events: list[dict[str, Any]] = []
    Guest(agent="guest_agent").run({"do": "many", "with": [3], "seed": 1}, tmp_path, events.append, 30.0)
    assert [event for event in events if event["event"] == "notice"] == [
        {"event": "notice", "text": userspace.FELL_BACK}
    ]
    assert events[0]["event"] == "notice"


@pytest.mark.parametrize(
    ("console", "fell_back"),
    [
        ("Checking that seccomp filters can be installed...OK\nmore", False),
        (
            (
                "Checking that seccomp filters can be installed...error\nChecking that ptrace can change system "
                "call numbers...OK"
            ),
            True,
        ),
        ("Checking that seccomp filters can be installed...missing\n", True),
        ("Checking that ptrace can change system call numbers...OK", False),
    ],
)
def test_whether_a_kernel_fell_back(console: str, fell_back: bool) -> None:
    """By what it says at its start."""
    assert userspace.fell_back(console) == fell_back


def test_both_ways_of_running_send_the_same(tmp_path: Path) -> None:
    """A run's capture is the same to the byte, traced or not."""
    captures = []
    for traced in (False, True):
        folder = tmp_path / str(traced)
        folder.mkdir()
        job = {"source": "stale-data", "arm": "treatment", "folder": str(folder), "set": Overrides().as_dict()}
        request = {"jobs": [job], "seed": 1, "engine": "guest", "mechanisms": {}}
        Guest(agent=AGENT, traced=traced).run(request, folder, lambda event: None, 120)
        captures.append((folder / "treatment.pcapng").read_bytes())
    assert captures[0] == captures[1]
