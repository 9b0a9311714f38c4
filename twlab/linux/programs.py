"""Finds programs of the system where Debian has them.

An ordinary user's PATH lacks the administrator's folders.
"""

from __future__ import annotations

import os
import shutil

_ADMINISTRATORS = "/usr/local/sbin:/usr/sbin:/sbin"


def find_program(name: str) -> str | None:
    """Return the path of the program `name`, or None.

    It looks in PATH, then in the administrator's folders.
    """
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_ADMINISTRATORS}")
