#!/usr/bin/env bash
# With SO_LINGER, close() of a non-blocking socket stops asyncio's whole event loop for the linger time.
#
# Guess: the socket is non-blocking, so close() returns at once and lingers in the background.
# Happened: on Linux close() waits in spite of O_NONBLOCK, up to the linger time, while the peer does
# not acknowledge. asyncio and uvloop call it in the loop's thread: every other task stands still.
# Matters to: servers that set SO_LINGER against lost last bytes: one client that stops reading stops
# all others for so long. A time of 0 (RST) does not wait.
# socket(7) says that close() waits; it does not say that O_NONBLOCK changes nothing.
# Versions: Python 3.11.7, uvloop 0.23.0, Linux 6.18.44.
# shellcheck source=/dev/null
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
pypi uvloop==0.23.0

cat >linger.py <<'PY'
import asyncio
import os
import socket
import struct
import sys
import time

import uvloop


async def stall(linger_s: int) -> float:
    """Return how long the loop stood still while it closed one connection whose peer does not read."""
    worst = 0.0

    async def beat() -> None:
        nonlocal worst
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            worst = max(worst, time.monotonic() - before)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        _, writer = await asyncio.open_connection(*listener.getsockname())
        silent, _ = listener.accept()
        own = writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, linger_s))
        print("blocking" if os.get_blocking(own.fileno()) else "non-blocking", end=", ")
        writer.write(b"x" * 10_000_000)
        await asyncio.sleep(0.2)
        task = asyncio.create_task(beat())
        await asyncio.sleep(0.05)
        writer.transport.abort()
        await asyncio.sleep(0.1)
        task.cancel()
        silent.close()
    return worst


for run in (asyncio.run, uvloop.run):
    for linger_s in (0, 3):
        seconds = run(stall(linger_s))
        print(run.__module__.split(".")[0], f"linger {linger_s} s:", "stands still" if seconds > 2.9 else "goes on")
PY
alone python3 linger.py >seen

expect <<'SEEN'
non-blocking, asyncio linger 0 s: goes on
non-blocking, asyncio linger 3 s: stands still
non-blocking, uvloop linger 0 s: goes on
non-blocking, uvloop linger 3 s: stands still
SEEN
