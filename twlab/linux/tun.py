"""Checks for the device that makes TAP interfaces.

Source: Linux Documentation/networking/tuntap.rst.
"""

from __future__ import annotations

from pathlib import Path

from twlab import lab_kernel
from twlab.errors import CapabilityError

DEVICE = "/dev/net/tun"


def check() -> None:
    """Raise CapabilityError (``no-tun``) unless this process may make a TAP device."""
    try:
        with Path(DEVICE).open("rb"):
            return
    except OSError as error:
        raise CapabilityError(
            f"{DEVICE} cannot be opened: {error.strerror}",
            lab_kernel.or_guest("modprobe tun, and allow this user to open it"),
            "no-tun",
        ) from error
