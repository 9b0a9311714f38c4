"""Finds programs of the system where Debian has them; an ordinary user's PATH lacks the folders of
the administrator.
"""

from __future__ import annotations

import os
import shutil

_ADMINISTRATORS = "/usr/local/sbin:/usr/sbin:/sbin"


def find_program(name: str) -> str | None:
    """Return the path of the program `name`, from PATH or from the administrator's folders; None:
    there is none.
    """
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_ADMINISTRATORS}")
