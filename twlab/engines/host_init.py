"""The host engine's first process in its sandbox: runs the agent.

    python -m twlab.engines.host_init AGENT

AGENT is a module with ``carry_out(request, emit)``. The request is one JSON object on standard
input. Events are JSON objects, one a line, on standard output (`twlab.engines.protocol`). Anything
else that is printed goes to standard error."""

from __future__ import annotations

import importlib
import json
import os
import sys

from twlab.engines.protocol import Event
from twlab.linux import syscalls
from twlab.linux.syscalls import be_prompt

_SHARED_MEMORY = "/dev/shm"


def main() -> None:
    """Run the agent named on the command line."""
    be_prompt()  # what the lab does late on a busy machine, it shows late
    keep_shared_memory_apart()
    events = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def emit(event: Event) -> None:
        events.write(json.dumps(event) + "\n")
        events.flush()

    request = json.load(sys.stdin)
    importlib.import_module(sys.argv[1]).carry_out(request, emit)


def keep_shared_memory_apart() -> None:
    """Give the lab shared memory of its own, where the machine has any.

    Squid names its segments alike in every process that has no service name of its own
    (``/squid-cf__metadata.shm``). Two labs at one time would meet there.
    """
    if os.path.isdir(_SHARED_MEMORY):
        syscalls.mount("tmpfs", _SHARED_MEMORY, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV)


if __name__ == "__main__":
    main()
