"""What a guest that runs a stranger's code sees of this machine.

It sees the Python it runs on, and nothing else. A guest's root file system is all that its kernel
can see. For a stranger's code that is a tree of its own. It holds the system's programs and
libraries, the Python environment and the package, all bound read-only. Two small tmpfs are for the
guest's memory and for what it reports. There is no home folder, no /proc, no user's file, and of
/etc only what libraries read.

The kernel runs without rights: without any capability, unable to gain one, and with a limit on
processor time. If root started it, it runs as an unprivileged user.
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
_UNPRIVILEGED = 65534  # the user and the group that own no file


def enclosure(kernel: Path, *, memory_mib: int, processor_s: int) -> dict[str, Any]:
    """Return what `enclose` and `give_up_rights` need to know, as JSON values.

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
    """Return the paths of the Python that runs this, its packages and twlab.

    They are absolute and have no symbolic links.
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
    """Leave the file system, for good, for one that holds only `view`.

    The caller must be in a mount namespace of its own.

    Raises:
        OSError: the kernel refuses a step.
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
    syscalls.change_root(_ROOT)
    syscalls.set_read_only("/", True, recursive=True)
    for path in ("/dev/shm", "/run"):
        syscalls.set_read_only(path, False)


def give_up_rights(owned: Sequence[Path], processor_s: int) -> None:
    """Limit processor time, and drop the rights of what this process executes next.

    Args:
        owned: files that it may change all the same.
        processor_s: seconds of processor time.

    Raises:
        OSError: the kernel refuses a step.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (processor_s, processor_s))
    syscalls.drop_capabilities()
    if _is_root_of_machine():
        for path in owned:
            os.chown(path, _UNPRIVILEGED, _UNPRIVILEGED, follow_symlinks=False)
        os.setgroups([])
        os.setresgid(_UNPRIVILEGED, _UNPRIVILEGED, _UNPRIVILEGED)
        os.setresuid(_UNPRIVILEGED, _UNPRIVILEGED, _UNPRIVILEGED)


def _is_root_of_machine() -> bool:
    """Return whether this is the machine's root.

    An ordinary user who is root in a user namespace is not: such a user cannot become another user,
    and need not.
    """
    try:
        os.chown("/run", _UNPRIVILEGED, -1)
        os.chown("/run", 0, -1)
    except OSError:
        return False
    return True


def _show(path: str) -> None:
    place = _ROOT + path
    os.makedirs(os.path.dirname(place), exist_ok=True)
    syscalls.show(path, place)
