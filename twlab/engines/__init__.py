"""Runs labs: in the lab kernel (guest), or in namespaces on this machine (host)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from twlab import lab_kernel
from twlab.errors import UsageError, did_you_mean
from twlab.lab_kernel import require_processor

if TYPE_CHECKING:
    from twlab.engines.protocol import Engine


def choose(name: str = "", *, agent: str, kernel: str = "") -> Engine:
    """Return the engine called `name`; default: guest on x86-64, host elsewhere.

    Args:
        agent: the module that carries out requests in it, with ``carry_out(request, emit)``.
        kernel: the guest's lab kernel, a series or a path; empty: the one in use, see `use_kernel`.

    Raises:
        UsageError: there is no such engine (``no-such-engine``), `kernel` names no kernel
            (``bad-kernel``), or the engine is the host's (``kernel-on-host``).
        CapabilityError: the guest needs a lab kernel, and none has been built (``no-lab-kernel``),
            or it does not run on this processor (``other-processor``).
    """
    name = name or ("guest" if lab_kernel.is_possible() else "host")
    _refuse_on_host(kernel, name)
    if name == "host":
        from twlab.engines.host import HostEngine

        return HostEngine(agent=agent)
    if name == "guest":
        require_processor()
        from twlab.engines.guest.engine import Guest

        return Guest(kernel_path(kernel), agent=agent)
    near = did_you_mean(name, ("guest", "host"))
    raise UsageError(f"there is no engine called {name!r}{near}", "the engines are: guest, host", "no-such-engine")


def use_kernel(wanted: str, engine: str = "") -> None:
    """Make the kernel that --kernel names the lab kernel from now on.

    Args:
        wanted: what --kernel says; empty: nothing changes.

    Raises:
        CapabilityError: it has not been built (``no-lab-kernel``), or it does not run on this
            processor (``other-processor``).
        UsageError: `wanted` names no kernel (``bad-kernel``), or `engine` is the host's
            (``kernel-on-host``).
    """
    if not wanted:
        return
    _refuse_on_host(wanted, engine)
    require_processor()
    from twlab.engines.kernel import select

    select(wanted)


def kernel_path(wanted: str = "") -> Path:
    """Return the lab kernel that `wanted` names.

    Args:
        wanted: a series or a path; empty: the one in use.

    Raises:
        CapabilityError: it has not been built (``no-lab-kernel``), or it does not run on this
            processor (``other-processor``).
        UsageError: `wanted` names no kernel (``bad-kernel``).
    """
    require_processor()
    if wanted:
        from twlab.engines.kernel import named

        return named(wanted).path
    from twlab.engines.guest.engine import built_kernel

    return built_kernel()


def _refuse_on_host(kernel: str, engine: str) -> None:
    if kernel and engine == "host":
        message = f"--kernel {kernel} names a lab kernel, and the host engine runs on this machine's own"
        raise UsageError(message, "leave out --kernel, or --engine host", "kernel-on-host")
