"""Finds the IP header in frames.

Ethernet with any number of VLAN tags, Linux cooked captures, raw IP, null and loopback.
"""

from __future__ import annotations

import numpy as np

from twlab.observe.frames import Frames, number
from twlab.observe.packets import Array

ETHERNET, NULL, LOOP = 1, 0, 108
_RAW = {12, 14, 101, 228, 229}
_COOKED, _COOKED_2 = 113, 276
KNOWN = {ETHERNET, NULL, LOOP, _COOKED, _COOKED_2, *_RAW}
_VLAN = (0x8100, 0x88A8, 0x9100)
_IP4, _IP6 = 0x0800, 0x86DD
MPLS, PPPOE = 0x8847, 0x8864
_MOST_TAGS = 4


def ip_headers(frames: Frames) -> tuple[Array, Array, Array]:
    """Find the IP header of each frame.

    Returns:
        Where it begins in the buffer; the virtual network (VLAN tags, 12 bits each; 0: none); the
        kind of the frame. The kind is 4 or 6 for IP. For MPLS and PPPoE, which
        `twlab.observe.tunnels` looks into, it is the EtherType. It is 0 for all others.
    """
    data, start = frames.data, frames.start
    net = np.zeros(len(frames), np.uint64)
    if frames.link == ETHERNET:
        at, kind = start + 14, number(data, start + 12, ">u2")
    elif frames.link == _COOKED:
        at, kind = start + 16, number(data, start + 14, ">u2")
    elif frames.link == _COOKED_2:
        at, kind = start + 20, number(data, start, ">u2")
    elif frames.link in _RAW or frames.link in (NULL, LOOP):
        at = start + (4 if frames.link in (NULL, LOOP) else 0)
        return at, net, np.where(at < start + frames.kept, number(data, at, "u1") >> 4, 0)
    else:
        return start, net, np.zeros(len(frames), np.uint16)
    at, kind = _without_tags(frames, at, kind, net)
    version = np.where(kind == _IP4, 4, 0)
    if not version.all():
        known = (kind == MPLS) | (kind == PPPOE)
        version = np.where(kind == _IP6, 6, np.where(known, kind, version))
    version *= at < start + frames.kept
    return at, net, version


def _without_tags(frames: Frames, at: Array, kind: Array, net: Array) -> tuple[Array, Array]:
    """Skip VLAN tags, and note them in `net`."""
    for _ in range(_MOST_TAGS):
        tagged = (
            np.nonzero(np.isin(kind, _VLAN) & (at + 4 <= frames.start + frames.kept))[0] if np.any(kind > _IP4) else ()
        )
        if not len(tagged):
            break
        at, kind = at.copy(), kind.copy()
        tag = number(frames.data, at[tagged], ">u2").astype(np.uint64) & np.uint64(0xFFF)
        net[tagged] = net[tagged] << np.uint64(12) | tag
        kind[tagged] = number(frames.data, at[tagged] + 2, ">u2")
        at[tagged] += 4
    return at, kind
