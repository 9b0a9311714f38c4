"""An installed program, run on a node: in its network namespace, without rights.

A child process in the node's network namespace enters a new user namespace, in which it is an
ordinary user. It has the files of the lab's user and may not change the network. Servers that
refuse to run as root, or want to change their user, accept that. The kernel kills it when the lab
ends, however that ends.
"""

from __future__ import annotations

import itertools
import os
import re
import resource
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from twlab.errors import CapabilityError, ScenarioError
from twlab.linux import syscalls
from twlab.loop import Loop

if TYPE_CHECKING:
    from twlab.network import Node

FAULT = re.compile(r"FATAL|\[emerg\]|\[ALERT\]")
"""A line in which a server says why it does not start: Squid's, nginx's, HAProxy's."""
_USER = 1000  # the user id that the program sees as its own
_FILES = 16_384  # descriptors it may have open at first; servers make tables of that size
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PATIENCE_S = 5.0
# linux/capability.h: CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID, NET_BIND_SERVICE and
# SYS_CHROOT
_SERVER_CAPABILITIES = {0, 1, 3, 5, 6, 7, 10, 18}


def find(name: str, package: str = "") -> str:
    """Return the path of the program `name`, of the system or beside this Python.

    Args:
        package: the command that installs it; empty: Debian's package of that name does.

    Raises:
        CapabilityError: it is not installed (``no-program``).
    """
    if path := shutil.which(name, path=f"{_PATH}:{Path(sys.executable).parent}"):
        return path
    remedy = package or f"apt-get install {name}, or: setup/install.sh"
    raise CapabilityError(f"{name} is not installed", remedy, "no-program")


class Program:
    """A running program, with a private folder.

    Args:
        node: where it runs.
        arguments: its path first; ``{folder}`` in them is replaced.
        files: name to text, to be put into the folder before it starts; ``{folder}`` is replaced in
            them, too.
        handed: sockets that it inherits under the same numbers.
        as_root: it starts as root, with the capabilities that a server needs to open files, change
            its root and become another user, and no others. False: as an ordinary user.
        environment: variables beside PATH, LC_ALL, HOME and TMPDIR.
        may: numbers of more capabilities that it has as root.
        most_files: descriptors that it may ask to have open, as far as the sandbox allows; it
            starts with 16,384.

    Attributes:
        name: of the program.
        folder: its working directory, on a file system of the sandbox; ``output`` there is its
            standard output and error.
        pid: of its process.
        status: its exit status once it has ended, minus the signal's number if one ended it; None
            while it runs.
    """

    def __init__(
        self,
        node: Node,
        loop: Loop,
        arguments: Sequence[str],
        files: dict[str, str],
        handed: Sequence[socket.socket] = (),
        *,
        as_root: bool = False,
        environment: Mapping[str, str] | None = None,
        may: Set[int] = frozenset(),
        most_files: int = _FILES,
    ):
        self.name = Path(arguments[0]).name
        self.folder = _new_folder(self.name)
        self._loop = loop
        for name, text in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text.replace("{folder}", str(self.folder)))
        words = [word.replace("{folder}", str(self.folder)) for word in arguments]
        parent = os.getpid()
        with node.inside():
            self.pid = os.fork()
            if self.pid == 0:
                for one in handed:
                    one.set_inheritable(True)
                capabilities = _SERVER_CAPABILITIES | may if as_root else None
                _child(words, self.folder, parent, capabilities, environment or {}, most_files)
        self._ended = os.pidfd_open(self.pid)
        self.status: int | None = None
        loop.watch(self._ended, self._note_end)

    def wait_until(self, ready: Callable[[], object], timeout_s: float = 30.0) -> None:
        """Serve the loop until `ready()`, called every 10 ms.

        Raises:
            ScenarioError: the program ended first (``program-ended``), or was not ready within
                `timeout_s` (``program-not-ready``).
        """
        deadline_s = self._loop.now_s + timeout_s
        while not ready():
            if self.status is not None:
                raise ScenarioError(
                    f"{self.name} ended with status {self.status}: {self.last_words()}",
                    "see the transcript",
                    "program-ended",
                )
            if self._loop.now_s > deadline_s:
                raise ScenarioError(
                    f"{self.name} was not ready within {timeout_s:g} s: {self.last_words()}",
                    "see the transcript",
                    "program-not-ready",
                )
            self._loop.sleep(0.01)

    def read(self, name: str) -> str:
        """Return a file of its folder; empty if there is no such file yet."""
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def last_words(self) -> str:
        """Return the last lines that it printed, those that name a fault if there are any."""
        lines = self.read("output").splitlines()
        faults = [line for line in lines if FAULT.search(line)]
        return " | ".join((faults or lines)[-3:]) or "it said nothing"

    def stop(self) -> None:
        """End the program and remove its folder. May be called again."""
        if self._ended < 0:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.status is None:
                os.kill(self.pid, number)
                self._loop.wait_until(lambda: self.status is not None, _PATIENCE_S)
        self._loop.forget(self._ended)
        os.close(self._ended)
        self._ended = -1
        shutil.rmtree(self.folder)

    def _note_end(self) -> None:
        self._loop.forget(self._ended)
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _new_folder(name: str) -> Path:
    """Make a folder whose name is the same in every run, so that results compare."""
    for number in itertools.count(1):
        folder = Path("/run", name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise AssertionError


def _child(
    arguments: list[str],
    folder: Path,
    parent: int,
    capabilities: Set[int] | None,
    environment: Mapping[str, str],
    most_files: int,
) -> NoReturn:
    """Run the child process up to the program's start.

    Args:
        capabilities: of root; None: as an ordinary user.
    """
    try:
        os.chdir(folder)
        output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.fchmod(output, 0o666)  # a server that is no longer root opens it again as /dev/stdout
        for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
            os.dup2(source, target)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # which Python ignores
        _allow_files(most_files)
        uid, gid = os.geteuid(), os.getegid()
        if capabilities is not None:
            syscalls.drop_capabilities(keep=capabilities)
        else:
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            syscalls.map_user(_USER, uid, gid)
        syscalls.die_with_parent()  # only now: a change of credentials clears it
        if os.getppid() == parent:
            ours = {"PATH": _PATH, "LC_ALL": "C", "HOME": str(folder), "TMPDIR": str(folder)}
            os.execve(arguments[0], arguments, {**environment, **ours})
    except OSError as error:
        os.write(2, f"{arguments[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _allow_files(most_files: int) -> None:
    """Raise the limits of open files to what the program needs, as far as allowed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, max(most_files, most)))
    except ValueError:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(_FILES, most), most))
