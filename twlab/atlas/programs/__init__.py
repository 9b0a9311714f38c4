"""The programs of the atlas, one file each.

A file has ``SUBJECTS``: one `twlab.atlas.subject.Subject` for each way of setting the program up.
The file's docstring says where its settings are documented.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Sequence
from pathlib import Path

from twlab.atlas.subject import Subject
from twlab.errors import CapabilityError, UsageError, did_you_mean
from twlab.linux.programs import find_program


def subjects() -> dict[str, Subject]:
    """Return all, by name: proxies first, then clients."""
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    every = [subject for module in modules for subject in module.SUBJECTS]
    return {subject.name: subject for subject in sorted(every, key=lambda subject: subject.is_client)}


def chosen(names: Sequence[str]) -> list[Subject]:
    """Return those called `names`, or by the first part of one; all, without names.

    Raises:
        UsageError: there is no such program (``no-such-program``).
    """
    known = subjects()
    found: dict[str, Subject] = {}
    for name in names or known:
        fitting = {key: each for key, each in known.items() if key == name or key.startswith(f"{name}-")}
        if not fitting:
            message = f"the atlas has no program called {name!r}{did_you_mean(name, known)}"
            raise UsageError(message, f"its programs are: {', '.join(known)}", "no-such-program")
        found |= fitting
    return list(found.values())


def path(subject: Subject) -> str:
    """Return the path of its program, or an empty text.

    It is looked for in the system, and beside this Python.
    """
    if subject.program == "python":
        return sys.executable
    beside = Path(sys.executable).with_name(subject.program)
    return find_program(subject.program) or (str(beside) if beside.exists() else "")


def missing(subject: Subject) -> CapabilityError | None:
    """Return the error (``no-program``) if the program is not installed.

    It names the package.
    """
    remedy = subject.package
    if not remedy.startswith(("pip ", "npm ")):
        remedy = f"apt-get install {remedy}, or: setup/install.sh atlas"
    lacking = [name for name in subject.needs if not _is_there(name)]
    if not path(subject):
        lacking.insert(0, subject.program)
    return CapabilityError(f"{lacking[0]} is not installed", remedy, "no-program") if lacking else None


def _is_there(name: str) -> bool:
    """Return whether there is a path, or a Python module, of that name."""
    return Path(name).exists() if name.startswith("/") else importlib.util.find_spec(name) is not None
