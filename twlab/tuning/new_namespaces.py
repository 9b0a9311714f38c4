"""Says what new namespaces begin with, in the namespace in which they are made.

In a lab kernel: what the baseline pins for every interface. A namespace takes ``conf.all`` and
``conf.default`` from the first one of its kernel, and an interface takes ``default``, where
net.core.devconf_inherit_init_net is 1 (net/ipv4/devinet.c, devinet_init_net; net/ipv6/addrconf.c,
addrconf_init_net). Written once a boot, they need not be written in each node and for each of its
interfaces.

On the host engine: a table of TCP sockets of their own, from Linux 6.1 on
(net.ipv4.tcp_child_ehash_entries). Without one a node shares the machine's, and listing its sockets
walks all of that: 3 ms of processor time on a machine with 23 GB, in place of 0.1 ms. Besides the
time, two defaults depend on the table's size, tcp_max_tw_buckets and tcp_max_syn_backlog, and the
baseline pins both (net/ipv4/tcp_ipv4.c, tcp_sk_init).

Both are for the pinned world alone.
"""

from __future__ import annotations

from contextlib import suppress

from twlab import lab_kernel
from twlab.linux import sysctl
from twlab.tuning.baseline import BASELINE
from twlab.world import World

_INHERIT = "net.core.devconf_inherit_init_net"
_AS_IN_THE_FIRST, _AS_COMPILED = "1", "2"
_OWN_TABLE = "net.ipv4.tcp_child_ehash_entries"
_BUCKETS, _SHARED = "8192", "0"
_TABLE = "net.ipv4.tcp_ehash_entries"  # negative where it is shared


def begin_namespaces_in(world: World) -> None:
    """Say what the next namespaces begin with that this process makes.

    What the kernel does not have, or does not let be written, is left: then the nodes share the
    machine's table, and all of the baseline is written in each.
    """
    pinned = world.name == "pinned"
    with suppress(OSError):  # a confined guest's may not be written
        if lab_kernel.is_this():
            _inherit_interfaces(pinned)
        elif (sysctl.read(_TABLE) or "").startswith("-"):  # so this is no machine's first namespace
            sysctl.write(_OWN_TABLE, _BUCKETS if pinned else _SHARED)


def _inherit_interfaces(pinned: bool) -> None:
    wanted = _AS_IN_THE_FIRST if pinned else _AS_COMPILED
    if sysctl.read(_INHERIT) in (None, wanted):  # None: not in the first namespace
        return
    if pinned:
        for pin in BASELINE:
            if "*" in pin.sysctl:
                for whose in ("all", "default"):
                    sysctl.write(pin.sysctl.replace("*", whose), pin.value)
    sysctl.write(_INHERIT, wanted)
