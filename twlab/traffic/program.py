"""A program of the machine's, run on a node: in its network namespace, without rights, and never
longer than the lab.

How it works. A child process, in the node's network namespace, enters a user namespace of its own,
in which it is an ordinary user: it owns what the lab's user owns, may do nothing to the network,
and servers that refuse to run as root, or want to become somebody else, are content. The kernel
kills it with the lab, however that ends.
"""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from twlab.errors import CapabilityError, ScenarioError
from twlab.linux import syscalls
from twlab.loop import Loop

if TYPE_CHECKING:
    from twlab.network import Node

_USER = 1000  # whom the program takes itself for
_FILES = 16_384  # descriptors it may have open; servers make tables of that size
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PATIENCE_S = 5.0


def find(name: str) -> str:
    """The path of the program `name`. Raises CapabilityError: it is not installed (``no-program``)."""
    if path := shutil.which(name, path=_PATH):
        return path
    raise CapabilityError(f"{name} is not installed", f"apt-get install {name}, or: setup/install.sh", "no-program")


class Program:
    """A running program, with a folder of its own.

    Args:
        node: where it runs.
        arguments: its path first; ``{folder}`` in them is replaced.
        files: name to text, to be put into the folder before it starts; ``{folder}`` is replaced in
            them, too.

    Attributes:
        name: of the program.
        folder: its working directory, on a file system of the sandbox's; ``output`` there is its
            standard output and error.
        pid: of its process.
        status: its exit status once it has ended, minus the signal's number if one ended it; None
            while it runs.
    """

    def __init__(self, node: Node, loop: Loop, arguments: Sequence[str], files: dict[str, str]):
        self.name = Path(arguments[0]).name
        self.folder = _new_folder(self.name)
        self._loop = loop
        for name, text in files.items():
            (self.folder / name).write_text(text.replace("{folder}", str(self.folder)))
        words = [word.replace("{folder}", str(self.folder)) for word in arguments]
        parent = os.getpid()
        with node.inside():
            self.pid = os.fork()
            if self.pid == 0:
                _child(words, self.folder, parent)
        self._ended = os.pidfd_open(self.pid)
        self.status: int | None = None
        loop.watch(self._ended, self._note_end)

    def wait_until(self, ready: Callable[[], object], timeout_s: float = 30.0) -> None:
        """Serve the loop until `ready()`, asked every 10 ms.

        Raises:
            ScenarioError: the program ended instead (``program-ended``), or that did not come about
                (``program-not-ready``).
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
        """A file of its folder; empty where there is none yet."""
        path = self.folder / name
        return path.read_text(errors="replace") if path.exists() else ""

    def last_words(self) -> str:
        """The last lines that it printed."""
        return " | ".join(self.read("output").splitlines()[-3:]) or "it said nothing"

    def stop(self) -> None:
        """End it, remove its folder. May be called again."""
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
    """Of a name that is the same in every run, so that results can be compared."""
    for number in itertools.count(1):
        folder = Path("/run", name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            continue
    raise AssertionError


def _child(arguments: list[str], folder: Path, parent: int) -> NoReturn:
    """The program's process, up to the program itself."""
    try:
        os.chdir(folder)
        output = os.open("output", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, output), (2, output)):
            os.dup2(source, target)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # which Python ignores
        _allow_files()
        uid, gid = os.geteuid(), os.getegid()
        syscalls.unshare(syscalls.CLONE_NEWUSER)
        syscalls.map_user(_USER, uid, gid)
        syscalls.die_with_parent()  # only now: a change of credentials clears it
        if os.getppid() == parent:
            os.execve(
                arguments[0], arguments, {"PATH": _PATH, "LC_ALL": "C", "HOME": str(folder), "TMPDIR": str(folder)}
            )
    except OSError as error:
        os.write(2, f"{arguments[0]}: {error}\n".encode())
    finally:
        os._exit(127)


def _allow_files() -> None:
    """As many descriptors as the program needs, where the limit of whoever runs the lab allows it,
    or may be raised.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (_FILES, max(_FILES, most)))
    except ValueError:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
