"""Makes a package callable: `twlab.run(...)`, although `twlab.run` is a package.

The import system binds a package to its name in the package above. A function of the same name
would be replaced by that; a package that can be called is both.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_FUNCTIONS = "twlab.notebook.functions"  # imported at the first call: it imports these packages


class CallablePackage(ModuleType):
    """A package that passes calls on to the function of its name.

    The function is in `twlab.notebook.functions`.
    """

    def __call__(self, *args: Any, **options: Any) -> Any:
        function = getattr(importlib.import_module(_FUNCTIONS), self.__name__.rpartition(".")[2])
        return function(*args, **options)


def make_callable(package: str) -> None:
    """Make the imported package of that name callable."""
    sys.modules[package].__class__ = CallablePackage
