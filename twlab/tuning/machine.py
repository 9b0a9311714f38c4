"""Reads this machine's sysctls, as the world that arms start from.

Read where twlab was started: in the machine's own network namespace, or in that of a container.
Only what belongs to a network namespace can be carried over, and of that what the baseline pins:
nothing else matters for TCP at close.
"""

from __future__ import annotations

from twlab.linux import sysctl
from twlab.tuning.baseline import BASELINE, LAB_KERNEL_ONLY, Pin
from twlab.world import World

_SHARED = ("net.ipv4.tcp_mem", "net.ipv4.tcp_max_orphans", "net.netfilter.nf_conntrack_max")


def read_machine() -> World:
    """Return the values of this machine, and what is left behind and why."""
    values: dict[str, str] = {}
    left: dict[str, str] = {}
    for pin in BASELINE:
        if pin.needed:
            if any(sysctl.read(one) not in (None, pin.value) for one in sysctl.expand(pin.sysctl)):
                left[pin.sysctl] = f"the lab needs {pin.value}"
        elif "*" in pin.sysctl:
            _read_interfaces(pin, values, left)
        elif (value := sysctl.read(pin.sysctl)) is not None:
            values[pin.sysctl] = value
        elif pin.sysctl not in LAB_KERNEL_ONLY:
            left[pin.sysctl] = "this machine has no such sysctl"
    for name in _SHARED:
        if sysctl.exists(name):
            left[name] = "it belongs to the whole machine, not to a network namespace"
    return World("machine", values, left)


def _read_interfaces(pin: Pin, values: dict[str, str], left: dict[str, str]) -> None:
    """Read a sysctl of interfaces: those of the lab get what this machine's new ones would."""
    every, usual = (sysctl.read(pin.sysctl.replace("*", name)) for name in ("all", "default"))
    if every is None or usual is None:
        left[pin.sysctl] = "this machine has no such sysctl"
        return
    values[pin.sysctl.replace("*", "all")] = every
    values[pin.sysctl] = usual
    for name in sysctl.expand(pin.sysctl):
        interface = name.removeprefix(pin.sysctl.partition("*")[0]).partition(".")[0]
        if interface not in ("all", "lo") and (own := sysctl.read(name)) not in (None, usual):
            left[name] = f"{own} is of one interface; the lab's get the default, {usual}"
