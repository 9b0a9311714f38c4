"""TCP stacks that are not the kernel's, run as programs on nodes that have none."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twlab.stacks.far_end import FarEnd
from twlab.stacks.gvisor import GvisorStack
from twlab.stacks.lwip import LwipStack

if TYPE_CHECKING:
    from twlab.lab.lab import Lab


def boot(lab: Lab, name: str) -> FarEnd | None:
    """Start the TCP stack that the topology gave to a node.

    None: it is the kernel's.

    Raises:
        CapabilityError: it cannot be run on this machine (``no-lwip``, ``no-gvisor``).
    """
    stack = getattr(lab.network[name], "stack", "linux")
    if stack == "linux":
        return None
    return {kind.stack: kind for kind in (LwipStack, GvisorStack)}[stack](lab, name)
