"""Imports a package's modules without what the package drags along.

In the lab kernel an import is dear, some ten times what it costs on the host. Two packages import
far more than the lab uses: `pyroute2/__init__` loads 160 modules where the encoding of rtnetlink
messages needs 26 (0.10 s against 0.015 s on the host), and `mininet.node` loads all of setuptools,
by way of distutils, for one comparison of version numbers that the lab never makes (0.10 s against
0.01 s).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def without_init(package: str) -> Iterator[None]:
    """In the block, submodules of `package` are imported without running its ``__init__``; a later
    import runs it as ever.

    Raises:
        ModuleNotFoundError: the package is not installed.
    """
    spec = importlib.util.find_spec(package) if package not in sys.modules else None
    if spec is None and package not in sys.modules:
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)
    with stand_ins({} if spec is None else {package: importlib.util.module_from_spec(spec)}):
        yield


@contextmanager
def stand_ins(modules: dict[str, ModuleType]) -> Iterator[None]:
    """In the block, these modules stand in for those of their names, unless those are loaded
    already.
    """
    placed = [name for name in modules if name not in sys.modules]
    sys.modules.update({name: modules[name] for name in placed})
    try:
        yield
    finally:
        for name in placed:
            del sys.modules[name]
