"""Diagnoses a guest that has ended, from its console and its exit status."""

from __future__ import annotations

import re
from dataclasses import dataclass

from twlab.engines.guest.init import AGENT_BEGINS

_PANIC = re.compile(r"Kernel panic - not syncing: (?P<reason>.*)")
_INIT_DIED = re.compile(r"Attempted to kill init! exitcode=0x(?P<code>[0-9a-f]+)")
_OUT_OF_MEMORY = re.compile(r"deadlocked on memory|[Oo]ut of memory|MemoryError")
_NO_PAGE = re.compile(
    r"Kernel mode signal 7\b"
)  # SIGBUS: the guest's memory is a file, and the file system has no page for it
_FAREWELL = ("reboot: ", "remove_umid_dir")


@dataclass(frozen=True)
class Fault:
    """The reason why a run of the guest is no result.

    It is the slug of an `EngineError` and its message.
    """

    slug: str
    message: str


def fault(text: str, status: int, *, garbled: str, ended: bool) -> Fault | None:
    """Return the fault of a guest that is gone; None if it ended as it should.

    Args:
        text: its console.
        status: exit status of the process.
        garbled: beginning of the first line among its events that was none; empty when there was no
            such line.
        ended: whether its last event was ``end``.
    """
    if panic := _PANIC.search(text):
        reason = panic["reason"].strip()
        if died := _INIT_DIED.search(reason):
            return Fault("guest-ended-early", f"the agent in the guest died ({_in_words(int(died['code'], 16))})")
        if _NO_PAGE.search(reason):
            return Fault("guest-out-of-memory", "the machine had no memory left for the guest, or its /dev/shm is full")
        if _OUT_OF_MEMORY.search(reason):
            return Fault("guest-out-of-memory", f"the guest ran out of memory: {reason}")
        return Fault("guest-panicked", f"the lab kernel panicked: {reason}")
    if garbled:
        return Fault("guest-garbled", f"the guest reported something that is no event: {garbled!r}")
    if not ended:
        last = "".join(said(text)[-1:]).strip()
        slug = "guest-out-of-memory" if _OUT_OF_MEMORY.match(last) else "guest-ended-early"
        return Fault(
            slug, f"the guest ended before its work was done, with status {status}{': ' + last if last else ''}"
        )
    if status != 0:
        return Fault("guest-ended-early", f"the guest ended with status {status} after its work was done")
    return None


def _in_words(wait_status: int) -> str:
    return f"signal {wait_status & 0x7F}" if wait_status & 0x7F else f"exit status {wait_status >> 8 & 0xFF}"


def said(text: str) -> list[str]:
    """Return the lines that the agent in the guest wrote to the console.

    What every lab kernel says before and after is left out.
    """
    return [
        line
        for line in text.rpartition(AGENT_BEGINS)[2].splitlines()
        if line.strip() and not line.startswith(_FAREWELL)
    ]
