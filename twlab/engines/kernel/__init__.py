"""The lab kernel: user-mode Linux, built with the project's changes.

It is built from the distribution's own kernel source, with the project's configuration.

    recipe   what is built: `lab.config` and `patches/`, by the kernel's release
    source   what it is built from: the distribution's source package, or a tree
    fetch    a source package from a suite that the machine does not have
    build    unpack, change, configure, check, compile
    provide  fetch and build what was asked for, or the newest that can be had
    store    where built kernels are kept, and which one is used
    info     what a built kernel is

`docs/reference/lab-kernel.md` says what is changed and why it is still Linux. The configuration and
the changes are GPL-2.0-only, as the kernel is.
"""

from twlab.engines.kernel.build import build
from twlab.engines.kernel.info import info
from twlab.engines.kernel.provide import overview, provide
from twlab.engines.kernel.store import Kernel, find, named, select

__all__ = ["Kernel", "build", "find", "info", "named", "overview", "provide", "select"]
