"""Loads a user's Python file, and finds the line that an error comes from.

Scenario files and topology files are loaded here. Such a file may raise any exception, call
`sys.exit`, print, or run for ever.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib.util
import inspect
import linecache
import re
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType, ModuleType, TracebackType
from typing import Any

from twlab.errors import LabError, UsageError, did_you_mean

_LOAD_LIMIT_S = 10  # processor time: a file of declarations takes a few milliseconds
_KEYWORD = re.compile(r"(?:(\w+)\.)?(\w+)\(\) got an unexpected keyword argument '(\w+)'")
_IMPORT = re.compile(r"cannot import name '(\w+)' from '([\w.]+)'")


class _EndlessError(Exception):
    """The file is still computing after the limit."""


def load(path: Path, name: str, slug: str) -> ModuleType:
    """Run the file at `path` as the module `name`, with its output on standard error.

    Args:
        path: the file.
        name: of the module, under which it is kept in `sys.modules`.
        slug: of the error that is raised where the file is at fault.

    Raises:
        UsageError: there is no such file, or it cannot be run to its end; the message names the
            line and its text.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}", "name a file that is there", slug)
    if not path.name.endswith(".py"):
        raise UsageError(f"{path} does not end in .py", "give it a name that does", slug)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(name)
    sys.modules[name] = module  # where dataclasses, and the drawing in a docstring, are looked for
    try:
        with contextlib.redirect_stdout(sys.stderr), _bounded():
            spec.loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a file may raise anything, SystemExit among it
        sys.modules.pop(name)
        if before:
            sys.modules[name] = before
        raise _refused(error, path, slug) from error
    return module


def split(text: str) -> tuple[str, str]:
    """Split ``PATH.py:NAME`` into path and name, each empty where `text` has none.

    A folder of the path may have a colon in its name.
    """
    if text.endswith(".py"):
        return text, ""
    path, colon, name = text.rpartition(".py:")
    return (f"{path}.py", name) if colon else ("", "")


def place(error: BaseException, path: str | Path) -> str:
    """Return the line of the file at `path` that `error` comes from.

    For example ``mine.py, line 31: lab.slep(2)``; empty where the error comes from elsewhere.
    """
    if isinstance(error, SyntaxError) and error.filename and _same(error.filename, path):
        return _line(path, error.lineno or 0)
    found = 0
    for frame, number in _frames(error.__traceback__):
        if _same(frame.f_code.co_filename, path):
            found = number
    return _line(path, found) if found else ""


def words(error: BaseException) -> str:
    """Return `error` in one line, with the name that was probably meant.

    For example ``AttributeError: ...; did you mean 'sleep'?``.
    """
    if isinstance(error, _EndlessError):
        return f"it is still computing after {_LOAD_LIMIT_S} s"
    if isinstance(error, SystemExit):
        return f"it ends the program: sys.exit({'' if error.code is None else repr(error.code)})"
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}{': ' if text else ''}{text}{did_you_mean(*_wanted(error))}"


def _refused(error: BaseException, path: Path, slug: str) -> UsageError:
    where = place(error, path)
    found = f" ({where})" if where else ""
    if isinstance(error, LabError):
        return UsageError(f"{error.message}{found}", error.remedy, error.slug)
    remedy = "mend that line" if where else "run it with python3 to see where"
    return UsageError(f"{path} cannot be loaded: {words(error)}{found}", remedy, slug)


def _line(path: str | Path, number: int) -> str:
    linecache.checkcache(str(path))
    text = linecache.getline(str(path), number).strip()
    return f"{Path(path).name}, line {number}" + (f": {text}" if text else "")


def _same(one: str, other: str | Path) -> bool:
    return Path(one).absolute() == Path(other).absolute()


def _frames(trace: TracebackType | None) -> Iterator[tuple[FrameType, int]]:
    while trace:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _wanted(error: BaseException) -> tuple[str, Iterable[str]]:
    """Return the unknown name and the known ones; empty for other kinds of errors."""
    frames = [frame for frame, _ in _frames(error.__traceback__)]
    if isinstance(error, AttributeError) and error.name and error.obj is not None:
        return error.name, [name for name in dir(error.obj) if not name.startswith("_")]
    if isinstance(error, NameError) and error.name and frames:
        return error.name, [*frames[-1].f_locals, *frames[-1].f_globals, *dir(builtins)]
    if isinstance(error, ImportError) and (found := _IMPORT.match(str(error))):
        return found[1], dir(sys.modules.get(found[2]))
    if isinstance(error, TypeError) and frames and (found := _KEYWORD.match(str(error))):
        return found[3], _parameters(found[1], found[2], frames[-1])
    return "", ()


def _parameters(owner: str | None, function: str, frame: FrameType) -> list[str]:
    """Return the arguments of ``owner.function``, looked up in `frame`, then in twlab."""
    ours = [vars(module) for name, module in list(sys.modules.items()) if name.partition(".")[0] == "twlab" and module]
    for space in (frame.f_locals, frame.f_globals, *ours):
        found: Any = space.get(owner or function)
        if found is not None and (not owner or hasattr(found, function)):
            called = found if not owner or function == "__init__" else getattr(found, function)
            with contextlib.suppress(TypeError, ValueError):
                return [name for name in inspect.signature(called).parameters if name != "self"]
    return []


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """Raise `_EndlessError` where the block takes too much processor time.

    Python allows that in the main thread only; elsewhere there is no limit.
    """

    def end(*_: object) -> None:
        raise _EndlessError

    try:
        before = signal.signal(signal.SIGPROF, end)
    except ValueError:
        yield
        return
    signal.setitimer(signal.ITIMER_PROF, _LOAD_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
