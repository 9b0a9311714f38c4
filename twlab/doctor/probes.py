"""Probes of this machine's kernel: each tries one need of the host engine.

The probes run inside a sandbox (`twlab.engines.sandbox`), so they change nothing on the machine.
``python -m twlab.doctor.probes`` prints one JSON object, probe to ``[whether it worked, what was
found]``. `twlab.doctor.checks` starts it and names the remedies.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable

from twlab.errors import CapabilityError
from twlab.linux import ipvs, nftables, sysctl, tcp_sockets, tun
from twlab.linux.programs import find_program

_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_RX_RING, _PACKET_VERSION, _TPACKET_V3 = 263, 5, 10, 2  # include/uapi/linux/if_packet.h
_BLOCK = 1 << 16

_MASQUERADE = "table inet probe { chain out { type nat hook postrouting priority 100; masquerade; }; }"
_QUEUE = "table inet probe { chain through { type filter hook forward priority 0; queue flags bypass to 7; }; }"
_FLOWTABLE = """
    table inet shortcut {
        flowtable fast { hook ingress priority filter; devices = { "lo" }; }
        chain through { type filter hook forward priority filter; meta l4proto tcp flow add @fast; }
    }"""


def main() -> None:
    """Run all probes and print their results.

    Refuses to run anywhere but as pid 1 of a sandbox.
    """
    if os.getpid() != 1:
        sys.exit("the probes change the network they run in: they run in a sandbox only, see twlab doctor")
    answers = {name: _try(probe) for name, probe in PROBES.items()}
    json.dump(answers, sys.stdout)


def setting() -> str:
    """Write a sysctl of a new network namespace."""
    sysctl.write("net.ipv4.tcp_sack", "1")
    return "/proc/sys/net"


def links() -> str:
    """Make a pair of virtual Ethernet interfaces."""
    _run("ip", "link", "add", "probe0", "type", "veth", "peer", "name", "probe1")
    return "veth"


def translation() -> str:
    """Set a NAT gateway's rule, and with it connection tracking."""
    nftables.apply(_MASQUERADE)
    return "nftables masquerade"


def queueing() -> str:
    """Queue segments to a program.

    By nftables where the kernel has its queue expression, else by iptables.
    """
    try:
        nftables.apply(_QUEUE)
        return "nftables queue"
    except CapabilityError:
        _run(
            "iptables",
            "-w",
            "-t",
            "mangle",
            "-A",
            "FORWARD",
            "-p",
            "tcp",
            "-j",
            "NFQUEUE",
            "--queue-num",
            "7",
            "--queue-bypass",
        )
        return "iptables -j NFQUEUE"


def ending() -> str:
    """End a TIME_WAIT socket before its time, over inet_diag."""
    if not tcp_sockets.destroyable():
        raise OSError("the kernel does not end TIME_WAIT sockets on request")
    return "SOCK_DESTROY over inet_diag"


def capturing() -> str:
    """Make a ring that the kernel writes captured packets into."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL)) as tap:
        tap.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
        # struct tpacket_req3: block size and number, frame size and number, ms until a block is
        # handed over, private bytes, features
        tap.setsockopt(_SOL_PACKET, _PACKET_RX_RING, struct.pack("7I", _BLOCK, 1, 2048, _BLOCK // 2048, 10, 0, 0))
        mmap.mmap(tap.fileno(), _BLOCK).close()
    return "AF_PACKET ring (TPACKET_V3)"


def balancing() -> str:
    """Make a virtual service of IP Virtual Server."""
    ipvs.add_service(ipvs.Service("10.9.0.1", 80), "rr")
    return "carries the topology ipvs"


def offloading() -> str:
    """Make a flow table."""
    nftables.apply(_FLOWTABLE)
    return "carries nat,flowtable=1"


def tapping() -> str:
    """Open the device that makes TAP interfaces."""
    tun.check()
    return f"{tun.DEVICE} opens"


PROBES: dict[str, Callable[[], str]] = {
    "setting": setting,
    "links": links,
    "translation": translation,
    "queueing": queueing,
    "ending": ending,
    "capturing": capturing,
    "balancing": balancing,
    "offloading": offloading,
    "tapping": tapping,
}


def _try(probe: Callable[[], str]) -> tuple[bool, str]:
    try:
        return True, probe()
    except CapabilityError as error:
        return False, error.message
    except Exception as error:  # a kernel without the feature may fail in any way
        return False, str(error) or type(error).__name__


def _run(*command: str) -> None:
    program = find_program(command[0])
    if program is None:
        raise OSError(f"there is no program called {command[0]}")
    finished = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=False)
    if finished.returncode:
        raise OSError(" ".join(finished.stderr.split()) or f"{command[0]} ended with status {finished.returncode}")


if __name__ == "__main__":
    main()
