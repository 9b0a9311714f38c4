"""The host engine's sandbox: a command in namespaces that end with the caller.

The namespaces are new ones for user, network, mount and pid.

    caller ──stdin/stdout── outer ──fork── init ──exec── command
                            waits          pid 1 of the new pid namespace

The kernel cleans up. When pid 1 of a pid namespace ends, the kernel kills every process in it. With
the last of them go the network namespaces, their interfaces, rules and sysctls, and the mounts. So
all that is left to do is to make pid 1 end when the caller does. It asks for SIGKILL at its
parent's death, and `outer` asks for the same. Both check afterwards that the parent is still there,
since it may have died in between.

Run as a program: ``python -m twlab.engines.sandbox CALLER_PID COMMAND...``. The guest's launcher
calls `surround` and goes on in it: one start of Python less.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Callable

from twlab.errors import CapabilityError
from twlab.linux import syscalls

NO_NAMESPACES = 97  # exit status: the kernel refuses to make the namespaces; stderr says why


def main(arguments: list[str]) -> int:
    """Become the sandbox around a command; returns its exit status.

    The status is 128 + signal if the command was killed.
    """
    caller, *command = arguments
    return surround(int(caller), lambda: _execute(command))


def surround(caller: int, inside: Callable[[], object]) -> int:
    """Make the sandbox and call `inside` in it; returns its exit status, as `main`.

    Args:
        caller: the process with which it shall end.
        inside: what becomes of pid 1. The sandbox ends with it.
    """
    uid, gid = os.getuid(), os.getgid()
    try:
        syscalls.unshare(
            syscalls.CLONE_NEWNET
            | syscalls.CLONE_NEWNS
            | syscalls.CLONE_NEWPID
            | (syscalls.CLONE_NEWUSER if uid else 0)
        )
        if uid:
            syscalls.map_user(0, uid, gid)
    except OSError as error:
        print(error, file=sys.stderr)
        return NO_NAMESPACES
    # Only now: making a user namespace changes credentials, and that clears the request.
    syscalls.die_with_parent()
    if os.getppid() != caller:
        return 1
    alive, guard = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(guard)
        _become_init(alive, inside)
    os.close(alive)
    # The caller's pipes belong to the command alone, so that their end is seen when it ends.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def explain_refusal(reason: str) -> CapabilityError:
    """Return the error for namespaces that the kernel refused, with the remedy."""
    return CapabilityError(
        f"this machine does not let this user make namespaces ({reason.strip() or 'no reason given'})",
        "run as root, or allow them: sysctl kernel.unprivileged_userns_clone=1 (Debian), "
        "kernel.apparmor_restrict_unprivileged_userns=0 (Ubuntu), user.max_user_namespaces=10000",
        "no-namespaces",
    )


def _become_init(alive: int, inside: Callable[[], object]) -> None:
    """As pid 1, set up private mounts, then call `inside`; never returns."""
    try:
        syscalls.die_with_parent()
        if select.select([alive], [], [], 0)[0]:  # end of file: the parent is gone already
            os._exit(1)
        syscalls.mount("none", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
        syscalls.mount("proc", "/proc", "proc", syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC)
        # iptables keeps its lock in /run, and two labs share neither that nor anything else.
        syscalls.mount("tmpfs", "/run", "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV)
    except OSError as error:
        _refused(error)
    try:
        inside()
    except BaseException:
        import traceback  # seldom needed, and slow to load

        traceback.print_exc()
    os._exit(1)


def _execute(command: list[str]) -> None:
    try:
        os.execv(command[0], command)
    except OSError as error:
        _refused(error)


def _refused(error: OSError) -> None:
    print(error, file=sys.stderr, flush=True)
    os._exit(NO_NAMESPACES)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except OSError as error:
        print(errno.errorcode.get(error.errno or 0, ""), error, file=sys.stderr)
        sys.exit(NO_NAMESPACES)
