"""nftables on a kernel without netfilter, which is made up here."""

import errno
import os
import socket

import pytest

from twlab.errors import CapabilityError
from twlab.linux import nftables


def refuse(family: int, kind: int, protocol: int) -> socket.socket:
    assert (family, kind, protocol) == (socket.AF_NETLINK, socket.SOCK_RAW, 12)
    raise OSError(errno.EPROTONOSUPPORT, os.strerror(errno.EPROTONOSUPPORT))


def test_a_kernel_without_netfilter_is_told_before_the_library_ends_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One message with a remedy. libnftables itself would print a line and exit."""
    nftables._require_netlink.cache_clear()
    monkeypatch.setattr(nftables.socket, "socket", refuse)
    with pytest.raises(CapabilityError, match="this kernel has no netfilter: Protocol not supported") as caught:
        nftables.apply("table inet nothing { }")
    assert (caught.value.slug, "modprobe" in caught.value.remedy) == ("no-nftables", True)
