"""Applies nftables rule sets in-process, by libnftables.

Starting `nft` in the lab kernel would cost a fork and an exec.
"""

from __future__ import annotations

import ctypes
import socket
from functools import cache

from twlab import lab_kernel
from twlab.errors import CapabilityError
from twlab.linux import netlink

_LIBRARY = "libnftables.so.1"


def apply(ruleset: str) -> None:
    """Apply `ruleset` in this thread's network namespace, whole or not at all.

    `ruleset` is the text that `nft -f` takes.

    Raises:
        CapabilityError: libnftables is not installed (``no-libnftables``), or the kernel lacks what
            the rules use (``no-nftables``).
    """
    nft = _library()
    _require_netlink()
    # A context keeps its netlink socket, and that belongs to the namespace in which it was opened:
    # one for each call.
    context = nft.nft_ctx_new(0)
    try:
        nft.nft_ctx_buffer_output(context)
        nft.nft_ctx_buffer_error(context)
        if nft.nft_run_cmd_from_buffer(context, ruleset.encode()) != 0:
            said = nft.nft_ctx_get_error_buffer(context).decode(errors="replace").strip()
            message = f"nftables refuses a rule: {' '.join(said.split())}"
            remedy = lab_kernel.or_guest("load nf_tables, nft_chain_nat, nft_masq and nft_ct (modprobe)")
            raise CapabilityError(message, remedy, "no-nftables")
    finally:
        nft.nft_ctx_free(context)


@cache
def _require_netlink() -> None:
    """Raise CapabilityError where the kernel has no netfilter at all.

    libnftables would end the process there (src/mnl.c, nft_mnl_socket_open()).
    """
    try:
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, netlink.NETFILTER).close()
    except OSError as error:
        message = f"this kernel has no netfilter: {error.strerror}"
        raise CapabilityError(
            message, "load it: modprobe nfnetlink; or take a kernel that has nf_tables", "no-nftables"
        ) from None


@cache
def _library() -> ctypes.CDLL:
    try:
        nft = ctypes.CDLL(_LIBRARY)
    except OSError:
        raise CapabilityError(
            f"{_LIBRARY} is not installed", "apt-get install libnftables1", "no-libnftables"
        ) from None
    nft.nft_ctx_new.restype = ctypes.c_void_p
    nft.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    for function in (
        nft.nft_ctx_free,
        nft.nft_ctx_buffer_output,
        nft.nft_ctx_buffer_error,
        nft.nft_ctx_get_error_buffer,
    ):
        function.argtypes = [ctypes.c_void_p]
    nft.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return nft
