"""The first process in the lab kernel: makes file systems, starts an agent.

It makes the guest's file systems, then has an agent carry out what was ordered. The host copies it
into the exchange folder, and the kernel starts it there, on a Python that knows no site-packages.
So it uses nothing of twlab, not even after it has read its orders. It never returns: it ends the
guest by switching it off.

The orders, ``orders.json`` in the exchange folder:

    {"host_name": ..., "folder": the one writable folder, or empty, "cwd": ..., "path": sys.path,
     "executable": ..., "environment": {...}, "agent": "twlab.run.agent", "request": {...},
     "awaits": whether the request comes later}

A guest that awaits its request imports its agent, emits the event ``ready``, and looks for
``request.json`` in the exchange folder, until the host has put it there.

The agent is a module with ``carry_out(request, emit)``. What it emits goes to the file ``events``,
one JSON object a line; its standard output and standard error are the console.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import select
import sys
import traceback
from pathlib import Path
from typing import Any, TextIO

AGENT_BEGINS = "the agent begins"  # a line on the console: what follows is the agent's

_NOSUID, _NODEV, _NOEXEC = 2, 4, 8
_MCL_CURRENT = 1
_RB_POWER_OFF = 0x4321FEDC
_PR_SET_TIMERSLACK = 29

_CLOCK_MONOTONIC, _TIMER_ABSTIME = 1, 1
_GOES_ON_S = 5  # since boot, where the request comes after it: more than boot and imports take

_MOST_HELD = 16  # events
_GARBAGE = 20_000  # objects; with Python's 700 to 2,000 a fiftieth of a run went into looking for it
_MANY_PACKETS = 10_000  # between two pulses
_libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    """Mount, read the orders, have them carried out, switch off."""
    try:
        # A sleep ends on time, to the nanosecond, not within the 50 us that Linux allows itself in
        # order to save power.
        _libc.prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        orders, events, exchange = _open_exchange(Path(__file__).parent)
        name = orders["host_name"].encode()
        _libc.sethostname(name, len(name))
        _mount_all(orders["folder"])
        # The agent is the one process that must not be sacrificed: a guest short of memory says so,
        # and ends.
        Path("/proc/sys/vm/panic_on_oom").write_text("1")
        # And what it runs on stays in memory: else Linux, short of it, may throw out and fetch back
        # the same pages of Python for ever.
        _libc.mlockall(_MCL_CURRENT)
        os.environ.update(orders["environment"])
        os.chdir(orders["cwd"])
        sys.path[:] = orders["path"]
        sys.executable = orders["executable"]
        _carry_out(orders, events, exchange)
        events.flush()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        _libc.reboot(_RB_POWER_OFF)


def _open_exchange(exchange: Path) -> tuple[dict[str, Any], TextIO, int]:
    _mount("none", str(exchange), "hostfs", _NOSUID | _NODEV, str(exchange))
    orders = json.loads((exchange / "orders.json").read_text())
    events = (exchange / "events").open("w")
    # From here on the open file is enough. Where the exchange is no private tmpfs, a guest that is
    # killed leaves nothing in it.
    for file in exchange.iterdir():
        file.unlink()
    return orders, events, os.open(exchange, os.O_RDONLY | os.O_DIRECTORY)


def _mount_all(folder: str) -> None:
    quiet = _NOSUID | _NODEV
    _mount("proc", "/proc", "proc", quiet | _NOEXEC)
    _mount("sysfs", "/sys", "sysfs", quiet | _NOEXEC)
    _mount("devtmpfs", "/dev", "devtmpfs", _NOSUID)
    for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{target}", f"/dev/{name}")
    os.mkdir("/dev/pts")
    os.mkdir("/dev/shm")
    _mount("devpts", "/dev/pts", "devpts", _NOSUID | _NOEXEC, "mode=620,ptmxmode=666")
    _mount("tmpfs", "/dev/shm", "tmpfs", quiet)
    _mount("tmpfs", "/run", "tmpfs", quiet, "mode=755")
    for path in ("/tmp", "/var/tmp"):
        # What lies there can be read, as a scenario's file may; what is written stays in the guest.
        layers = Path(f"/run/layers{path}")
        (layers / "upper").mkdir(parents=True)
        (layers / "upper").chmod(0o1777)
        (layers / "work").mkdir()
        _mount("overlay", path, "overlay", quiet, f"lowerdir={path},upperdir={layers}/upper,workdir={layers}/work")
    if folder:
        _mount("none", folder, "hostfs", quiet, folder)


def _sleep_until(since_boot_s: int) -> None:
    """Sleep until the guest is so old: how long it has spun then makes no difference."""
    _libc.clock_nanosleep(_CLOCK_MONOTONIC, _TIMER_ABSTIME, (ctypes.c_long * 2)(since_boot_s, 0), None)


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    if _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode()) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount {kind} on {target}: {os.strerror(number)}")


def _carry_out(orders: dict[str, Any], events: TextIO, exchange: int) -> None:
    held = seen = 0

    def emit(event: dict[str, Any]) -> None:
        nonlocal held, seen
        events.write(json.dumps(event) + "\n")
        # What only shows how it goes on is handed over some at a time; a step begins what may never
        # end, so it is seen at once. A second with many packets is minutes of real time.
        packets = event.get("packets", seen)
        many, seen = packets - seen >= _MANY_PACKETS, packets
        shows = event["event"] in ("entry", "pulse") and event.get("kind") != "step" and not many
        held = held + 1 if shows else _MOST_HELD
        if held >= _MOST_HELD:
            events.flush()
            held = 0

    print(AGENT_BEGINS, flush=True)
    gc.disable()
    agent = importlib.import_module(orders["agent"])
    gc.freeze()  # what was imported stays
    gc.set_threshold(_GARBAGE)
    gc.enable()
    if orders.get("awaits"):
        gc.collect()
        emit({"event": "ready"})
        orders["request"] = _awaited(exchange)
        _sleep_until(_GOES_ON_S)
    # TCP notes in which second since boot it saw a timestamp, and takes 0 for never: in the first
    # one there is no PAWS and no reuse of TIME_WAIT. So begin in the second one, which takes no
    # real time.
    select.select([], [], [], 1)
    agent.carry_out(orders["request"], emit)


def _awaited(exchange: int) -> dict[str, Any]:
    """Return the request that the host puts into the folder `exchange`.

    It spins: a sleep would take all the virtual time that there is. Spinning takes next to none,
    for only readings of the clock move it on. The host stops the whole guest meanwhile.

    A look into the folder is not free of them: after some two thousand looks all that the guest does
    later comes some hundred ns earlier or later, and its sequence numbers are others. So it looks
    seldom, and ever more so: on a busy machine, which is late to stop it, it stays the same for
    many seconds. A look comes some 3 ms after the request is there.
    """
    between = 100_000
    while not os.access("request.json", os.F_OK, dir_fd=exchange):
        for _ in range(between):
            pass
        between += 1_000
    with os.fdopen(os.open("request.json", os.O_RDONLY, dir_fd=exchange)) as file:
        request: dict[str, Any] = json.load(file)
        return request


if __name__ == "__main__":
    main()
