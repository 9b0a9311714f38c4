"""lwIP on a node: the distribution's library in a C program of ours, `lwip.c`.

It is compiled at first use in a sandbox or boot, which takes about a second; where the lab's clock
is virtual, it stands still meanwhile.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from twlab.errors import CapabilityError
from twlab.stacks.compiling import compile_once
from twlab.stacks.far_end import FarEnd

if TYPE_CHECKING:
    from twlab.lab.lab import Lab

TIME_WAIT_S = 120  # 2 * TCP_MSL, which is a minute (lwip/priv/tcp_priv.h)
SOURCE = Path(__file__).with_name("lwip.c")


class LwipStack(FarEnd):
    """lwIP, running on a node until the arm ends or `stop`.

    It boots with the same first sequence number and the same first port each time, as lwIP does
    without a source of randomness.

    Args:
        name: of the node, which is a `UserStack`.
        pool: control blocks that there are for TCP connections (lwIP's MEMP_NUM_TCP_PCB); 0: they
            come from the heap, as in Debian's build.

    Raises:
        CapabilityError: there is no C compiler, or no library (``no-lwip``).
        ScenarioError: the node has another stack (``no-such-stack``).
    """

    stack, title = "lwip", "lwIP"

    def __init__(self, lab: Lab, name: str, pool: int = 0):
        super().__init__(lab, name, compiled(Path("/run/twlab-lwip")), [str(pool)])


def compiled(program: Path) -> Path:
    """Return `program`, made of lwip.c unless it is there.

    Raises:
        CapabilityError: there is no C compiler, or no library with its headers (``no-lwip``).
    """
    command = ["cc", "-O2", "-Wall", "-I/usr/include/lwip", "-o", "{}", str(SOURCE), "-llwip", "-lpthread"]
    if fault := compile_once(program, command, "C compiler"):
        remedy = "apt-get install gcc libc6-dev liblwip-dev, or: setup/install.sh"
        raise CapabilityError(f"lwIP cannot be compiled: {fault}", remedy, "no-lwip")
    return program
