"""A stand-in for the agent in a guest: does the one thing that a test asks for."""

from __future__ import annotations

import ctypes
import hashlib
import os
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Emit = Callable[[dict[str, Any]], None]


def carry_out(request: dict[str, Any], emit: Emit) -> None:
    emit({"event": "start", "job": 0})
    globals()[request["do"]](emit, *request.get("with", []))
    emit({"event": "end"})


def look_around(emit: Emit) -> None:
    """Where it runs, what time it is, and what a sleep of a minute takes."""
    wall_s = time.time()
    began_s = time.monotonic()
    time.sleep(60)
    emit(
        {
            "event": "seen",
            "uid": os.getuid(),
            "pid": os.getpid(),
            "wall_s": wall_s,
            "slept_s": time.monotonic() - began_s,
            "python": sys.version,
        }
    )


def write(emit: Emit, *paths: str) -> None:
    """Try to write each of the paths, after trying to make the root writable again, and around it."""
    libc = ctypes.CDLL(None)
    libc.mount(b"none", b"/", b"", ctypes.c_ulong(32), b"")
    Path("/run/again").mkdir()
    libc.mount(b"none", b"/run/again", b"hostfs", ctypes.c_ulong(0), b"/")
    for path in (*paths, *(f"/run/again{path}" for path in paths)):
        try:
            Path(path).write_text("written in the guest")
            emit({"event": "wrote", "path": path})
        except OSError as error:
            emit({"event": "refused", "path": path, "why": error.strerror})


def read(emit: Emit, path: str) -> None:
    emit({"event": "read", "text": Path(path).read_text()})


def shout(emit: Emit) -> None:
    while True:
        print("x" * 10_000)


def panic(emit: Emit) -> None:
    Path("/proc/sysrq-trigger").write_text("c")


def spin_in_steps(emit: Emit) -> None:
    """Computes in the steps of an arm."""
    emit({"event": "entry", "kind": "step"})
    while True:
        pass


def poll_in_steps(emit: Emit) -> None:
    """Waits in the steps of an arm by looking at the clock."""
    emit({"event": "entry", "kind": "step"})
    end_s = time.monotonic() + 3600
    while time.monotonic() < end_s:
        pass


def _compute(times: int) -> None:
    for _ in range(times):  # a count: in virtual time no clock says how long it takes
        sum(range(10_000))


def compute_first(emit: Emit) -> None:
    """Takes its time before the steps, and in them whenever the clock has moved on."""
    _compute(8_000)
    emit({"event": "entry", "kind": "step"})
    for _ in range(4):
        _compute(2_000)
        time.sleep(1)
    emit({"event": "done"})


def load_in_steps(emit: Emit) -> None:
    """Computes much at each instant, and waits for the next, a seventh of a millisecond later."""
    emit({"event": "entry", "kind": "step"})
    for _ in range(80):
        _compute(200)
        time.sleep(1 / 7000)
    emit({"event": "done"})


def spin(emit: Emit) -> None:
    while True:
        pass


def wait(emit: Emit) -> None:
    while True:
        time.sleep(0.05)


def talk(emit: Emit) -> None:
    while True:
        emit({"event": "entry"})


def devour(emit: Emit) -> None:
    kept = []
    while True:
        kept.append(bytearray(b"x") * (1 << 20))


def mutter(emit: Emit) -> None:
    print("something of note", file=sys.stderr)


def stumble(emit: Emit) -> None:
    raise RuntimeError("the agent stumbled")


def leave(emit: Emit) -> None:
    os._exit(3)


def crash(emit: Emit) -> None:
    ctypes.string_at(0)


def babble(emit: Emit, text: str) -> None:
    """Write `text` among the events."""
    for name in os.listdir("/proc/self/fd"):
        if os.path.exists(path := f"/proc/self/fd/{name}") and os.readlink(path).startswith("/run/twlab/events"):
            os.write(int(name), text.encode())


def many(emit: Emit, count: int) -> None:
    for number in range(count):
        emit({"event": "entry", "number": number, "padding": "x" * 1000})


def converse(emit: Emit) -> None:
    """A few connections over the loopback, and the digest of every packet of theirs, with its time."""
    import fcntl
    import struct

    with socket.socket() as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sH14s", b"lo", 0x41, b""))  # SIOCSIFFLAGS: up, running
    digest = hashlib.sha256()
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as tap,
        socket.create_server(("127.0.0.1", 5000)) as server,
    ):
        tap.bind(("lo", 0))
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", 5000)) as client, server.accept()[0] as accepted:
                client.sendall(b"x" * 3000)
                accepted.recv(100)
                time.sleep(0.01)
            while True:
                try:
                    digest.update(repr((time.monotonic_ns(), tap.recv(1 << 16, socket.MSG_DONTWAIT))).encode())
                except BlockingIOError:
                    break
    emit({"event": "digest", "value": digest.hexdigest(), "random": os.urandom(8).hex()})
