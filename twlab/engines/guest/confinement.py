"""What a guest that runs a stranger's code gets to see of this machine: the Python it runs on, and
nothing else.

The guest's root file system is what its kernel can see. For a stranger's code that is a tree of its
own: the system's programs and libraries, the Python environment and the package, bound read-only,
and two small tmpfs for the guest's memory and for what it reports. No home folder, no /etc but what
libraries read there, no /proc, no file of anybody's. And the kernel runs without rights: as nobody
where it was started by root, without any capability, unable to gain one, and with a limit on
processor time.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twlab import paths
from twlab.linux import syscalls

_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"),
    *("/etc/ld.so.cache", "/etc/alternatives", "/etc/protocols", "/etc/services"),
    *("/dev/null", "/dev/zero", "/dev/urandom"),
)
_EMPTY = ("/proc", "/sys", "/dev/shm", "/run", "/tmp", "/var/tmp")
_ROOT = "/run/enclosure"  # in the sandbox, where /run is a tmpfs of its own
_REPORT_MIB = 16  # for orders and events
NOBODY = 65534


def enclosure(kernel: Path, *, memory_mib: int, processor_s: int) -> dict[str, Any]:
    """What `enclose` needs to know, as JSON values.

    Args:
        kernel: the lab kernel.
        memory_mib: the guest's memory in MiB.
        processor_s: seconds of processor time that the kernel, and each process in it, may use.
    """
    return {
        "view": [*_SYSTEM, *own_python(), str(kernel.resolve())],
        "memory_mib": memory_mib,
        "processor_s": processor_s,
    }


def own_python() -> list[str]:
    """Where the Python that runs this, its packages and twlab lie: absolute paths, those without
    symbolic links.
    """
    packages = paths.PACKAGE
    own = [
        packages,
        packages.parent / "topologies",
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path(os.path.realpath(sys.executable)),
    ]
    own += [Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    return [str(path.resolve()) for path in own]


def enclose(view: Sequence[str], memory_mib: int) -> None:
    """Leave the file system for one that holds only `view`; for good. In mount namespaces of one's
    own. Raises OSError.
    """
    quiet = syscalls.MS_NOSUID | syscalls.MS_NODEV
    os.mkdir(_ROOT)
    syscalls.mount("tmpfs", _ROOT, "tmpfs", quiet, "size=1m,mode=755")
    os.umask(0o022)
    for path in _EMPTY:
        os.makedirs(_ROOT + path)
    seen: list[str] = []
    for path in sorted(set(view)):
        if os.path.lexists(path) and not any(path == outer or path.startswith(outer + "/") for outer in seen):
            _show(path)
            seen.append(path)
    syscalls.mount("tmpfs", f"{_ROOT}/dev/shm", "tmpfs", quiet, f"size={memory_mib + _REPORT_MIB}m,mode=1777")
    syscalls.mount("tmpfs", f"{_ROOT}/run", "tmpfs", quiet, f"size={_REPORT_MIB}m,mode=755")
    os.chdir(_ROOT)
    syscalls.pivot_root(".", ".")  # the old root lies over the new one
    syscalls.unmount(".")
    os.chdir("/")
    syscalls.set_read_only("/", True, recursive=True)
    for path in ("/dev/shm", "/run"):
        syscalls.set_read_only(path, False)


def give_up_rights(owned: Sequence[Path], processor_s: int) -> None:
    """A limit on processor time, and no rights left for what this process executes next; `owned`
    are the files that it may change. Raises OSError.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (processor_s, processor_s))
    syscalls.drop_capabilities()
    if _is_root_of_machine():
        for path in owned:
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _is_root_of_machine() -> bool:
    """Root, and not an ordinary user who is root in a user namespace: that one cannot become
    anybody else, nor needs to.
    """
    try:
        os.chown("/run", NOBODY, -1)
        os.chown("/run", 0, -1)
    except OSError:
        return False
    return True


def _show(path: str) -> None:
    place = _ROOT + path
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), place)
        return
    if os.path.isdir(path):
        os.mkdir(place)
    else:
        Path(place).touch()
    syscalls.mount(path, place, flags=syscalls.MS_BIND | syscalls.MS_REC)
