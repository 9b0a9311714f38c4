"""Runs a student's code in a process of its own, inside the lab kernel.

From there the code reaches neither the examiner nor any file.

    examiner, root of the guest                      stranger, pid 1 of its own namespaces, root of nothing outside them
        │  ◄──────── "ready": the arm is set ──────────┤
        ├── looks at the kernel, or deceives ── go ──► │  takes the steps
        │  ◄──────── "taken" ──────────────────────────┤
        ├── looks at the kernel ─────────────── go ──► │
        │  ◄──────── "done": what it says ─────────────┘

The jail does not judge what arrives. It bounds its size and the virtual time that it takes; real
time is bounded from outside of the guest.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twlab import loop
from twlab.engines.guest.confinement import own_python
from twlab.linux import syscalls

VIRTUAL_LIMIT_S = 7200.0
MOST_PROCESSES, MOST_MEMORY, MOST_FILE = 32, 160 << 20, 64 << 20
_MOST_REPORTED = 256 << 10  # bytes
_STRANGER = 65534  # uid and gid
_CGROUP = Path("/sys/fs/cgroup/stranger")
_CLONE_NEWUTS, _CLONE_NEWIPC = 0x0400_0000, 0x0800_0000

Message = dict[str, Any]
Attend = Callable[[str, int, Message], object]  # stage, pid, what the stranger says with it


GONE = "it did not come to its end: its process left, was killed, or used up its processor time"


class JailError(Exception):
    """The untrusted process did not come to its end, and why."""


def prepare() -> None:
    """Set limits on what all untrusted processes may use together, once a boot.

    Raises:
        OSError: the kernel refuses.
    """
    syscalls.mount(
        "cgroup2", str(_CGROUP.parent), "cgroup2", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    )
    (_CGROUP.parent / "cgroup.subtree_control").write_text("+pids +memory")
    _CGROUP.mkdir()
    (_CGROUP / "pids.max").write_text(str(MOST_PROCESSES))
    (_CGROUP / "memory.max").write_text(str(MOST_MEMORY))
    (_CGROUP / "memory.oom.group").write_text("1")


def run(
    work: Callable[[Callable[[Message], None], Callable[[str, Message], None]], None],
    files: dict[str, str],
    attend: Attend,
) -> Message:
    """Have a stranger do `work` and return what it says at the end.

    Args:
        work: called in the stranger with `tell(message)`, to be called once at the end, and
            `wait(stage, message)`, which returns when the examiner has attended to the stage.
        files: path to content, of what the stranger finds in its file system.
        attend: called in the examiner for the stages ``ready`` and ``taken``, once each.

    Raises:
        JailError: it ended without a word, said too much, said what is no message, or went
            on for too long.
    """
    report, reporting = os.pipe()
    going, go = os.pipe()
    with _fresh_pids():
        child = os.fork()
        if child == 0:
            _be_stranger(work, files, reporting, going)
    os.close(reporting)
    os.close(going)
    pidfd = os.pidfd_open(child)
    try:
        (_CGROUP / "cgroup.procs").write_text(str(child))
        with contextlib.suppress(BrokenPipeError):
            os.write(go, b"g")
        return _listen(report, go, pidfd, child, attend)
    finally:
        (_CGROUP / "cgroup.kill").write_text("1")
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for fd in (report, go, pidfd):
            os.close(fd)


def _listen(report: int, go: int, pidfd: int, child: int, attend: Attend) -> Message:
    deadline_s = loop.monotonic_s() + VIRTUAL_LIMIT_S
    said, expected = b"", ["ready", "taken"]
    while True:
        ready, _, _ = select.select([report, pidfd], [], [], max(0.0, deadline_s - loop.monotonic_s()))
        if not ready:
            raise JailError(f"it was not done after {VIRTUAL_LIMIT_S:g} s of virtual time")
        # A process that has ended may have said something before.
        data = os.read(report, 1 << 16) if report in ready else b""
        if not data:
            raise JailError(GONE)
        said += data
        if len(said) > _MOST_REPORTED:
            raise JailError("it reported too much")
        *lines, said = said.split(b"\n")
        for line in lines:
            message = _message(line)
            stage = message.get("stage")
            if stage == "done":
                return message
            if not expected or stage != expected.pop(0):
                raise JailError("its process did not keep to the order of things")
            attend(str(stage), child, message)
            with contextlib.suppress(BrokenPipeError):
                os.write(go, b"g")


def _message(line: bytes) -> Message:
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise JailError("its process reported something that is no report")
    return message


@contextlib.contextmanager
def _fresh_pids() -> Iterator[None]:
    """Have what is forked in the block become pid 1 of a new pid namespace.

    When that process ends, the kernel kills all processes in the namespace.
    """
    home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.unshare(syscalls.CLONE_NEWPID)
        yield
        syscalls.setns(home, syscalls.CLONE_NEWPID)
    finally:
        os.close(home)


def _be_stranger(work: Callable[..., None], files: dict[str, str], reporting: int, going: int) -> None:
    """Do the work in the child; never return."""
    status = 1
    try:
        _stay_with({reporting, going})
        os.read(going, 1)  # the limits are in force
        syscalls.map_all_memory()  # it touches most of it: page by page that is half of what an examination costs
        _hide_files(files)
        _give_up_rights()

        def tell(message: Message) -> None:
            os.write(reporting, json.dumps({"stage": "done", **message}).encode() + b"\n")

        def wait(stage: str, message: Message) -> None:
            os.write(reporting, json.dumps({"stage": stage, **message}).encode() + b"\n")
            os.read(going, 1)

        work(tell, wait)
        status = 0
    except BaseException:
        status = 2
    finally:
        os._exit(status)


def _stay_with(kept: set[int]) -> None:
    """Close all other files, and connect standard input and output to nothing.

    The examiner's file of events is among those closed.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in kept:
            with contextlib.suppress(OSError):
                os.close(int(name))
    os.setsid()


def _hide_files(files: dict[str, str]) -> None:
    """Set up a private view of the file system.

    It shows only the process's descendants, and an empty /run and /tmp.
    """
    quiet = syscalls.MS_NOSUID | syscalls.MS_NODEV
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    syscalls.mount("proc", "/proc", "proc", quiet | syscalls.MS_NOEXEC)
    # A checkout or a virtual environment may lie there itself: it is taken hold of before its place
    # is covered.
    needed = {
        path: os.open(path, os.O_PATH)
        for path in sorted(own_python())
        if path.startswith(("/tmp/", "/var/tmp/")) and os.path.isdir(path)
    }
    for path in ("/run", "/tmp", "/var/tmp", "/dev/shm"):
        syscalls.mount("tmpfs", path, "tmpfs", quiet, f"size={MOST_FILE},mode=1777")
    for path, held in needed.items():
        os.makedirs(path, exist_ok=True)
        syscalls.mount(f"/proc/self/fd/{held}", path, flags=syscalls.MS_BIND)
        syscalls.set_read_only(path, True)
        os.close(held)
    for path, text in files.items():
        Path(path).write_text(text)
    os.chdir("/tmp")


def _give_up_rights() -> None:
    """Become an ordinary user, who is root in a user namespace.

    There the process may make networks. Nothing else of the guest belongs to it.
    """
    for limit, most in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, MOST_FILE), (resource.RLIMIT_NOFILE, 4096)):
        resource.setrlimit(limit, (most, most))
    os.umask(0o022)
    os.setgroups([])
    os.setresgid(_STRANGER, _STRANGER, _STRANGER)
    os.setresuid(_STRANGER, _STRANGER, _STRANGER)
    syscalls.be_dumpable()
    syscalls.unshare(
        syscalls.CLONE_NEWUSER | syscalls.CLONE_NEWNET | syscalls.CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWIPC
    )
    syscalls.map_user(0, _STRANGER, _STRANGER)
