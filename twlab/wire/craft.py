"""Makes segments with Scapy: new ones, or ones like a segment that was seen.

No other module imports Scapy. It is imported on first use, without reading the machine's routes
and interfaces: 0.08 s on the host, about ten times that in the lab kernel.
"""

from __future__ import annotations

import sys
from functools import cache
from types import SimpleNamespace
from typing import Any, Literal

from twlab.segment import Flow, Segment, parse

Keep = Literal["keep"]
# What Scapy imports for TCP over IP, the deepest first; each takes some tens of milliseconds, ten
# times that in the lab kernel.
_PIECES = (
    "scapy.config",
    "scapy.data",
    "scapy.fields",
    "scapy.utils",
    "scapy.packet",
    "scapy.arch",
    "scapy.sendrecv",
    "scapy.layers.l2",
)


def craft(
    at_s: float = 0.0,
    *,
    like: Segment | None = None,
    flow: Flow | None = None,
    flags: str | None = None,
    seq: int | None = None,
    ack: int | None = None,
    payload: bytes | None = None,
    window: int | None = None,
    timestamp: tuple[int, int] | Keep | None = "keep",
    options: list[tuple[str, Any]] | None = None,
    hop_limit: int = 64,
) -> Segment:
    """Make a segment with right checksums.

    A field that is not given is as in `like`. Without `like` it is 0 or empty, the window 65535.

    Args:
        at_s: the time it shall bear.
        like: the segment to start from.
        flow: four-tuple in the segment's direction; needed without `like`.
        flags: letters of FSRPAU.
        seq, ack: taken modulo 2^32, so that arithmetic on them needs no care.
        timestamp: (TSval, TSecr), None for no timestamp, or ``"keep"`` for that of `like`.
        options: further TCP options as Scapy writes them, e.g. ``[("MSS", 1460)]``; those of `like`
            are not taken over.
        hop_limit: time to live, as it shall be on the link where the segment is injected.

    Raises:
        ValueError: neither `like` nor `flow`.
    """
    ends = flow or (like.flow if like else None)
    if ends is None:
        raise ValueError("a segment needs a four-tuple: give like= or flow=")
    stamp = (like.timestamp if like else None) if timestamp == "keep" else timestamp
    # Two NOPs first, as real stacks send it; Linux and others recognise that form sooner.
    wanted = [*(options or []), *([("NOP", None), ("NOP", None), ("Timestamp", stamp)] if stamp else [])]
    scapy = load()
    tcp = scapy.TCP(
        sport=ends.source_port,
        dport=ends.destination_port,
        flags=flags if flags is not None else like.flags if like else "",
        seq=(seq if seq is not None else like.seq if like else 0) % 2**32,
        ack=(ack if ack is not None else like.ack if like else 0) % 2**32,
        window=window if window is not None else like.window if like else 65535,
        options=wanted,
    )
    if ":" in ends.source:
        ip = scapy.IPv6(src=ends.source, dst=ends.destination, hlim=hop_limit)
    else:
        ip = scapy.IP(src=ends.source, dst=ends.destination, ttl=hop_limit, flags="DF")
    data = payload if payload is not None else like.payload if like else b""
    segment = parse(bytes(ip / tcp / data), at_s)
    assert segment is not None
    return segment


def show(segment: Segment) -> str:
    """Return every field of the packet, as Scapy shows it."""
    scapy = load()
    return (scapy.IPv6 if segment.raw[0] >> 4 == 6 else scapy.IP)(segment.raw).show(dump=True)


def warm_up() -> bool:
    """Import one more piece of Scapy; return whether there is more.

    For a caller that is idle now and must answer quickly later.
    """
    from importlib import import_module

    missing = next((name for name in _PIECES if name not in sys.modules), None)
    if missing:
        import_module(missing)
    else:
        load()
    return missing is not None


@cache
def load() -> SimpleNamespace:
    """Import Scapy, once; return its classes for the three headers.

    To be called before a segment comes that must be answered at once: on a slow machine the import
    outlasts a retransmission timer.
    """
    from scapy.config import conf

    conf.route_autoload = conf.route6_autoload = False
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6

    return SimpleNamespace(IP=IP, TCP=TCP, IPv6=IPv6)
