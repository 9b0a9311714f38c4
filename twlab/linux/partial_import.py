"""Imports a package's modules without its ``__init__``.

In the lab kernel an import takes some ten times as long as on the host. Two packages import far
more than the lab uses. `pyroute2/__init__` loads 160 modules where the encoding of rtnetlink
messages needs 26 (0.10 s against 0.015 s on the host). `mininet.node` loads all of setuptools, by
way of distutils, for one comparison of version numbers that the lab never makes (0.10 s against
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
    """Import submodules of `package` in the block without running its ``__init__``.

    A later import runs it.

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
    """Let these modules stand in for those of their names, in the block.

    A module that is loaded already stays.
    """
    placed = [name for name in modules if name not in sys.modules]
    sys.modules.update({name: modules[name] for name in placed})
    try:
        yield
    finally:
        for name in placed:
            del sys.modules[name]
