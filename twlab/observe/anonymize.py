"""Replaces addresses, so that results can be handed on.

Addresses with an equal prefix keep an equal prefix. Nothing else of an address is left.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
from dataclasses import replace
from functools import lru_cache
from itertools import count

from twlab.observe.findings import Findings, Frame


class Anonymizer:
    """A prefix-preserving mapping of addresses.

    It works as Crypto-PAn (Xu et al. 2002), with BLAKE2 as the keyed function. Two addresses that
    agree in exactly their first n bits also agree in exactly the first n bits afterwards.

    Args:
        key: the secret; a new random one by default, so that the mapping cannot be undone.
    """

    def __init__(self, key: bytes = b""):
        self._key = key or os.urandom(32)
        self._captures = count(1)
        self._flip = lru_cache(maxsize=1 << 16)(self._flip_uncached)

    def packed(self, address: bytes) -> bytes:
        """Replace an address of 4 or 16 bytes."""
        size = len(address) * 8
        number = int.from_bytes(address, "big")
        for at in range(size):
            number ^= self._flip(size, at, int.from_bytes(address, "big") >> size - at) << size - 1 - at
        return number.to_bytes(len(address), "big")

    def _flip_uncached(self, size: int, length: int, prefix: int) -> int:
        """Tell whether the bit that follows a prefix changes."""
        text = bytes([size, length]) + prefix.to_bytes(16, "big")
        return hashlib.blake2b(text, key=self._key, digest_size=1).digest()[0] & 1

    def text(self, address: str) -> str:
        """Replace an address that is given as text."""
        return str(ipaddress.ip_address(self.packed(ipaddress.ip_address(address).packed)))

    def findings(self, found: Findings) -> None:
        """Replace the addresses in `found`, and the names of its files and interfaces.

        Such names may say where they are from.
        """
        names = {name: f"capture-{next(self._captures)}" for name in dict.fromkeys(name for name, _ in found.files)}
        found.files = [(names[name], frames) for name, frames in found.files]
        found.faults = [_renamed(fault, names) for fault in found.faults]
        found.title = ", ".join(name for name, _ in found.files)
        found.interfaces = [
            replace(interface, name=f"interface-{number}") for number, interface in enumerate(found.interfaces, 1)
        ]
        found.reuse.pairs = {
            (self.text(client), self.text(server), port): line
            for (client, server, port), line in found.reuse.pairs.items()
        }
        for late in found.late:
            late.flow = (self.text(late.flow[0]), late.flow[1], self.text(late.flow[2]), late.flow[3])
            late.frame = Frame(names.get(late.frame.file, ""), late.frame.number)
            late.against = [Frame(names.get(frame.file, ""), frame.number) for frame in late.against]


def _renamed(fault: str, names: dict[str, str]) -> str:
    """Replace the name that a fault begins with."""
    name = max((name for name in names if fault.startswith(f"{name}: ")), key=len)
    return names[name] + fault[len(name) :]
