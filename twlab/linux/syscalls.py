"""Linux system calls that Python 3.11 lacks: namespaces, mounts, parent's death."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNS = 0x0002_0000
CLONE_NEWPID = 0x2000_0000
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWNET = 0x4000_0000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 32, 4096, 16384, 1 << 18
_ADDR_NO_RANDOMIZE = 0x0040000  # linux/personality.h
_PR_SET_PDEATHSIG = 1
_SO_RCVBUFFORCE = 33
_SYS_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
_IN_MODIFY = 2
_SYS_PIVOT_ROOT = {"x86_64": 155}.get(os.uname().machine, 41)
_MNT_DETACH = 2
_PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_SET_DUMPABLE = 24, 38, 4
_LAST_CAPABILITY = 63
_MCL_CURRENT = 1
_SYS_SCHED_SETATTR = {"x86_64": 314}.get(os.uname().machine, 274)
_SCHED_ATTR = struct.Struct(
    "=IIQiIQQQ"
)  # include/uapi/linux/sched/types.h: size, policy, flags, nice, priority, runtime, deadline, period
_SHORTEST_SLICE_NS = 100_000

_libc = ctypes.CDLL(None, use_errno=True)
_OWN_NAMESPACE = "/proc/thread-self/ns/net"
_here = -1  # file descriptor of the network namespace that this process is in; -1: not known


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Leave the namespaces named in `flags` for new ones (unshare(2)).

    Raises OSError.
    """
    global _here
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")
    if flags & CLONE_NEWNET:
        _here = -1


def map_user(inside: int, uid: int, gid: int) -> None:
    """Map one user and one group of the parent namespace to `inside`; raises OSError.

    For a process that has just made a user namespace (user_namespaces(7)). Only one id of each kind
    is mapped, so ``setgroups`` has to be denied first.

    Args:
        inside: the user and group id in the new namespace.
        uid, gid: the ids in the parent namespace.
    """
    for name, text in (("setgroups", "deny"), ("uid_map", f"{inside} {uid} 1"), ("gid_map", f"{inside} {gid} 1")):
        Path(f"/proc/self/{name}").write_text(text)


def setns(fd: int, kind: int = CLONE_NEWNET) -> None:
    """Have this thread enter the namespace of `fd` (setns(2)).

    Raises OSError.
    """
    global _here
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")
    if kind == CLONE_NEWNET:
        _here = -1


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """Mount `source` at `target` (mount(2)).

    Raises OSError, naming the target.
    """
    _check(
        _libc.mount(
            source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
        ),
        f"mount {target}",
    )


def unmount(target: str) -> None:
    """Take the mount at `target`, and all below it, out of this mount namespace.

    umount2(2) with MNT_DETACH. Raises OSError.
    """
    _check(_libc.umount2(target.encode(), _MNT_DETACH), f"umount {target}")


def show(path: str, place: str) -> None:
    """Show at `place`, where nothing is yet, what is at `path`.

    Mounts below it come along; a symbolic link becomes another. Raises OSError.
    """
    if os.path.islink(path):
        os.symlink(os.readlink(path), place)
        return
    if os.path.isdir(path):
        os.mkdir(place)
    else:
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY, 0o666))
    mount(path, place, flags=MS_BIND | MS_REC)


def change_root(new: str) -> None:
    """Make the mount `new` the root folder of this mount namespace, for good.

    It becomes the working directory (pivot_root(2)). Raises OSError.
    """
    os.chdir(new)
    # The old root then lies over the new one, and is taken away.
    _check(_libc.syscall(_SYS_PIVOT_ROOT, b".", b"."), f"pivot_root {new}")
    unmount(".")
    os.chdir("/")


def be_prompt() -> None:
    """Ask for the shortest time slices for this thread and its children.

    A thread with short slices has an early deadline, so it runs soon after it wakes, even on a busy
    machine. It gets no more of the processor, and needs no right. Linux 6.12 and later
    (kernel/sched/syscalls.c, __setscheduler_params()); on others nothing changes.
    """
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    wanted = _SCHED_ATTR.pack(_SCHED_ATTR.size, os.SCHED_OTHER, 0, nice, 0, _SHORTEST_SLICE_NS, 0, 0)
    _libc.syscall(_SYS_SCHED_SETATTR, 0, wanted, 0)


def drop_capabilities(keep: Container[int] = ()) -> None:
    """Give up all capabilities, for this process and its children, from the next exec.

    They cannot gain one again (capabilities(7)). Raises OSError.

    Args:
        keep: numbers of capabilities that are not given up.
    """
    for capability in range(_LAST_CAPABILITY + 1):
        if capability in keep:
            continue
        if _libc.prctl(_PR_CAPBSET_DROP, ctypes.c_ulong(capability), 0, 0, 0) != 0:
            break  # EINVAL: this kernel has no more of them
    _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), 0, 0, 0), "prctl")


def be_dumpable() -> None:
    """Let this process own its files in /proc again.

    A change of user takes that away (prctl(2), PR_SET_DUMPABLE). Raises OSError.
    """
    _check(_libc.prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(1), 0, 0, 0), "prctl")


def map_all_memory() -> None:
    """Map all memory of this process now, not each page at its first touch.

    What a fork has left to be copied is copied. In user-mode Linux a first touch takes several
    switches between processes of the host. mlockall(2) maps, and munlockall(2) leaves no page
    locked. Raises OSError.
    """
    _check(_libc.mlockall(_MCL_CURRENT), "mlockall")
    _check(_libc.munlockall(), "munlockall")


def die_with_parent(signal: int = 9) -> None:
    """Have the kernel send `signal` to this process when its parent ends.

    prctl(2), PR_SET_PDEATHSIG. Raises OSError.
    """
    _check(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal), 0, 0, 0), "prctl")


def keep_addresses() -> None:
    """Switch off the randomization of addresses from the next exec on.

    Programs, and their stacks, then lie at the same addresses each time (personality(2)). A refusal
    is ignored.
    """
    _libc.personality(ctypes.c_ulong(_ADDR_NO_RANDOMIZE))


def new_network_namespace() -> int:
    """Make a network namespace; return a file descriptor that keeps it alive.

    This thread stays where it is.
    """
    global _here
    home = _where()
    unshare(CLONE_NEWNET)
    try:
        return os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    finally:
        setns(home)
        _here = home


@contextmanager
def inside_network_namespace(fd: int) -> Iterator[None]:
    """Run the block in the network namespace of `fd`, then return.

    May be nested; `fd` stays open meanwhile. Where this process is by itself is opened once: a lab
    enters its nodes thousands of times, and in the lab kernel that opening costs more than both
    changes of namespace.
    """
    global _here
    home = _where()
    setns(fd)
    _here = fd
    try:
        yield
    finally:
        setns(home)
        _here = home


def _where() -> int:
    """Return a file descriptor of the network namespace that this process is in."""
    global _here
    if _here < 0:
        _here = os.open(_OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    return _here


def read_file(path: str, at_once: bool = False) -> bytes:
    """Read a file of /proc in as few system calls as possible.

    In the lab kernel they are slow. Raises OSError.

    Args:
        at_once: the kernel makes all of its content for the first read, up to 64 KiB, as of each
            file that it opens with single_open (fs/seq_file.c).
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, 1 << 16) if at_once else b"".join(iter(lambda: os.read(fd, 1 << 16), b""))
    finally:
        os.close(fd)


def set_read_only(path: str, read_only: bool, recursive: bool = False) -> None:
    """Make the mount at `path` read-only, or writable again (mount_setattr(2)).

    If `recursive`, all mounts below it as well. Raises OSError.
    """
    attributes = (ctypes.c_uint64 * 4)(*((_MOUNT_ATTR_RDONLY, 0) if read_only else (0, _MOUNT_ATTR_RDONLY)), 0, 0)
    flags = _AT_RECURSIVE if recursive else 0
    size = ctypes.sizeof(attributes)
    _check(
        _libc.syscall(_SYS_MOUNT_SETATTR, _AT_FDCWD, path.encode(), flags, attributes, ctypes.c_size_t(size)),
        f"mount_setattr {path}",
    )


def watch_writes(fd: int) -> int:
    """Return a descriptor that becomes readable when the file open at `fd` is written.

    Any process's writes count (inotify(7)). Raises OSError.
    """
    watch = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    _check(0 if watch >= 0 else -1, "inotify_init1")
    try:
        added = _libc.inotify_add_watch(watch, f"/proc/self/fd/{fd}".encode(), _IN_MODIFY)
        _check(0 if added >= 0 else -1, "inotify_add_watch")
    except OSError:
        os.close(watch)
        raise
    return watch


def enlarge_receive_buffer(sock: socket.socket, size: int) -> None:
    """Let `size` bytes wait in `sock`.

    Without the right to exceed net.core.rmem_max, that is the most (socket(7)).
    """
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
