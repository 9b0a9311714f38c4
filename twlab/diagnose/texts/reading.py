"""Fetches texts from files, folders, sos reports and standard input."""

from __future__ import annotations

import gzip
import io
import lzma
import re
import sys
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, cast

from twlab.diagnose.texts.assemble import Text
from twlab.errors import UsageError

_LONGEST = 1 << 30  # bytes of one text
_MOST_FILES = 200  # of a folder that is no sos report, all of which are read
_UNREADABLE = (OSError, EOFError, tarfile.TarError, lzma.LZMAError, zlib.error)
_WANTED = re.compile(
    r"(^|/)(ss|netstat|nstat|sysctl|conntrack|ipvsadm|haproxy|show_stat|ip_netns_exec_\S+?_(ss|netstat|nstat|sysctl|conntrack))(_-|_|\.|-|$)[^/]*$"
    r"|(^|/)proc/(\d+/)?net/(tcp6?|netstat|snmp|sockstat|nf_conntrack|stat/nf_conntrack|ip_vs|ip_vs_conn)$|(^|/)sysctl_-a$"
)


def read(paths: Iterable[str]) -> Iterator[Text]:
    """Read the texts at `paths`; ``-`` is standard input.

    Raises:
        UsageError: a path that is not there, cannot be read, or is not text (``bad-diagnosis``).
    """
    for path in paths:
        if path == "-":
            yield Text("standard input", _lines(sys.stdin.buffer, "standard input"))
        elif Path(path).is_dir():
            yield from _folder(Path(path))
        else:
            try:
                yield from _file(Path(path))
            except _UNREADABLE as error:
                raise _bad(
                    path, str(error.strerror if isinstance(error, OSError) and error.strerror else error)
                ) from error


def _file(path: Path) -> Iterator[Text]:
    if (path.name.endswith((".tar", ".tgz")) or ".tar." in path.name) and not path.name.endswith(".txt"):
        yield from _archive(path)
        return
    with _opened(path) as file:
        yield Text(path.name, _lines(file, str(path)))


def _opened(path: Path) -> IO[bytes]:
    """Open a file, which may be packed by gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(IO[bytes], gzip.open(path)) if packed else path.open("rb")


def _folder(folder: Path) -> Iterator[Text]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    wanted = [path for path in files if _WANTED.search(path.relative_to(folder).as_posix())]
    if len(files) <= _MOST_FILES:
        wanted = files
    if not wanted:
        raise _bad(str(folder), "no file in it has the name of a command that is known")
    for path in wanted:
        try:
            with _opened(path) as file:
                yield Text(
                    path.relative_to(folder).as_posix().removesuffix(".gz"), _lines(file, str(path), strict=False)
                )
        except PermissionError:
            continue
        except _UNREADABLE as error:
            raise _bad(str(path), str(error)) from error


def _archive(path: Path) -> Iterator[Text]:
    found = False
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            if member.isfile() and _WANTED.search(member.name) and (file := archive.extractfile(member)):
                found = True
                yield Text(member.name.partition("/")[2] or member.name, _lines(file, member.name, strict=False))
    if not found:
        raise _bad(str(path), "no file in it has the name of a command that is known")


def _lines(file: IO[bytes], name: str, strict: bool = True) -> list[str]:
    """Return the lines of a text.

    A binary file has none. It is an error if its name was given (`strict`).
    """
    data = file.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise _bad(name, "it is larger than 1 GiB")
    if b"\0" in data[:4096]:
        if strict:
            raise _bad(name, "it is not text")
        return []
    return io.TextIOWrapper(io.BytesIO(data), "utf-8", errors="replace").readlines()


def _bad(name: str, reason: str) -> UsageError:
    return UsageError(
        f"{name} cannot be read: {reason}", "give the output of what `twlab diagnose --collect` prints", "bad-diagnosis"
    )
