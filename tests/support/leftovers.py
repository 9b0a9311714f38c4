"""How tests see whether a lab has left anything behind."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
_LOOKS = 3  # in a row


def machine_state() -> list[str]:
    """The machine's own network, byte for byte: links, addresses, routes, rules, and the sysctls."""
    commands = [
        ["ip", "-d", "link"],
        ["ip", "addr"],
        ["ip", "route", "show", "table", "all"],
        ["ip", "netns"],
        ["nft", "list", "ruleset"],
    ]
    texts = [subprocess.run(command, capture_output=True, text=True, check=False).stdout for command in commands]
    sysctls = sorted(Path("/proc/sys/net/ipv4").glob("tcp_*"))
    return texts + [
        path.read_text() for path in sysctls if os.access(path, os.R_OK) and path.name != "tcp_fastopen_key"
    ]


def processes_of(tag: str) -> list[int]:
    """Pids of all processes that carry `tag` in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if tag.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def left_behind(tag: str, seconds: float = 60.0) -> list[str]:
    """What is left of all processes that carry `tag`, after so many seconds; as soon as nothing is,
    nothing.

    One look does not tell: a process has no environment while it starts a program, and one that was
    just forked may have come behind the look.
    """
    looks, end = 0, time.monotonic() + seconds
    while looks < _LOOKS and time.monotonic() < end:
        looks = 0 if processes_of(tag) else looks + 1
        time.sleep(0.01)
    return described(processes_of(tag)) if looks < _LOOKS else []


def described(pids: list[int]) -> list[str]:
    """What these processes are and wait for, as far as they still tell."""
    told = []
    for pid in pids:
        words = [str(pid)]
        for name in ("cmdline", "wchan", "stack", "status"):
            try:
                words.append(Path(f"/proc/{pid}/{name}").read_text().replace("\0", " ")[:500])
            except OSError:
                continue
        told.append(" | ".join(words))
    return told


def wait_for(condition: Callable[[], T], seconds: float = 60.0) -> T:
    """What `condition()` says once it is true, or after so many seconds."""
    end = time.monotonic() + seconds
    while not (said := condition()) and time.monotonic() < end:
        time.sleep(0.01)
    return said
