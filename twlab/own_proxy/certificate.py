"""The lab's own certificate: for listeners and origins that speak TLS."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

from twlab.own_proxy.reading import is_address

_MAKE_KEY = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "3650")
_MAKE_DH = ("genpkey", "-genparam", "-algorithm", "DH", "-pkeyopt", "group:ffdhe2048")


def make_certificate(names: Iterable[str]) -> str:
    """Make a key, a certificate and parameters for Diffie-Hellman, in one PEM text.

    It is made where it is used: the lab kernel's clock is not the machine's, and a certificate is
    valid from when it was made.

    Returns:
        the text; empty where openssl is not installed.
    """
    kinds = ",".join(f"IP:{name}" if is_address(name) else f"DNS:{name}" for name in names)
    made = []
    try:
        for words in (
            (*_MAKE_KEY, "-keyout", "-", "-subj", "/CN=lab", "-addext", f"subjectAltName={kinds}"),
            _MAKE_DH,
        ):
            done = subprocess.run(["openssl", *words], capture_output=True, text=True, check=True)
            made.append(done.stdout)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return "".join(made)
