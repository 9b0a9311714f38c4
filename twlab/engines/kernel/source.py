"""What the lab kernel is built from: a source package or an unpacked tree.

The package is the distribution's. Neither is ever written to.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from twlab.engines.kernel import recipe, store
from twlab.errors import CapabilityError, LabError, UsageError

PACKAGES = Path("/usr/src")
FETCHED = "sources"  # folder in a cache of kernels
# The series that the changes and the options are tested with, the newest first. A build that names
# none takes the first that is there.
TESTED = ("7.3", "7.2", "6.12", "6.1")
DISTRIBUTIONS = "6.12"  # Debian 12 and Debian 13 have it
# User-mode Linux has none of these devices, and without them a tree takes a third of the space.
# What Kconfig and make read stays.
_LEFT_OUT = [
    f"drivers/{kind}" for kind in ("gpu", "media", "net/ethernet", "net/wireless", "infiniband", "staging", "scsi")
]


@dataclass(frozen=True, slots=True)
class Source:
    """A kernel's source.

    Attributes:
        path: the file of a source package (the tar file that it installs, or the .deb), or the top
            folder of a tree.
        version: of a package the series that its name says, ``6.1``; of a tree what its Makefile
            says, ``6.1.192``.
    """

    path: Path
    version: str

    @property
    def is_tree(self) -> bool:
        """Whether it is an unpacked tree, which the user named."""
        return self.path.is_dir()

    def fingerprint(self) -> str:
        """Return a short name for this source as it is now.

        It changes with any file's name, size or time of change.
        """
        files = sorted(_files(self.path)) if self.is_tree else [self.path]
        seen = hashlib.sha256()
        for file in files:
            status = file.stat(follow_symlinks=False)
            name = file.relative_to(self.path) if self.is_tree else file.name
            seen.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        return seen.hexdigest()[:12]

    def unpack(self, folder: Path) -> None:
        """Put a copy into `folder`, without what user-mode Linux cannot use.

        Raises:
            CapabilityError: there is no space (``no-space``), or the source is broken
                (``broken-source``).
        """
        left_out = [f"--exclude={place}/*.{kind}" for place in _LEFT_OUT for kind in ("c", "h")]
        left_out += ["--exclude=Documentation/*.rst", "--exclude=Documentation/*.yaml", "--exclude=.git"]
        taking = ["tar", "--extract", "--no-same-owner", f"--directory={folder}"]
        if self.is_tree:
            giving = ["tar", "--create", *left_out, "--file=-", f"--directory={self.path}", "."]
            with subprocess.Popen(giving, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as giver:
                finished = subprocess.run(
                    [*taking, "--file=-"], stdin=giver.stdout, capture_output=True, text=True, check=False
                )
            failed = finished.returncode or giver.returncode
        else:
            with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as beside:
                tar = extract(self.path, Path(beside)) if self.path.suffix == ".deb" else self.path
                command = [*taking, *left_out, "--strip-components=1", f"--file={tar}"]
                finished = subprocess.run(command, capture_output=True, text=True, check=False)
            failed = finished.returncode
        if failed:
            raise cannot_unpack(self.path, folder, finished.stderr)


def extract(package: Path, folder: Path) -> Path:
    """Take the kernel's tar file out of `package`, a .deb, into `folder`.

    Raises:
        CapabilityError: it holds none, or is damaged, or this machine lacks dpkg-deb
            (``broken-source``, ``no-space``).
    """
    unpack = "tar --extract --no-same-owner --strip-components=3"
    command = f'dpkg-deb --fsys-tarfile "$1" | {unpack} --directory="$2" --file=- ./usr/src'
    finished = subprocess.run(["sh", "-c", command, "sh", package, folder], capture_output=True, text=True, check=False)
    if found := sorted(folder.glob("linux-source-*.tar.*")):
        return found[0]
    raise cannot_unpack(package, folder, finished.stderr)


def choose(given: Path | None = None, version: str | None = None) -> Source:
    """Choose the source to build from.

    It is `given`, or the package of `version`, or else the newest tested package that is there, or
    else the newest.

    Args:
        given: an unpacked tree, or the file of a source package:
            ``linux-source-7.3_7.3.4-1_all.deb``, ``linux-source-7.3.tar.xz``.
        version: the series of a package, ``7.3``.

    Raises:
        UsageError: `given` is not a kernel's source with user-mode Linux in it
            (``not-a-kernel-tree``); both are given (``bad-source``).
        CapabilityError: there is no such package (``no-kernel-source``).
    """
    if given is not None:
        if version is not None:
            raise UsageError(
                "a source and a package's version cannot both be given", "leave out --version", "bad-source"
            )
        if given.is_file():
            return Source(given.resolve(), _named_version(given))
        return Source(given.resolve(), makefile_version(given))
    packages = at_hand()
    by_age = sorted(packages, key=recipe.series, reverse=True)
    wanted = version or next((name for name in (*TESTED, *by_age) if name in packages), DISTRIBUTIONS)
    if wanted not in packages:
        there = f"; there is {', '.join(f'linux-source-{name}' for name in by_age)}" if packages else ""
        remedy = f"apt-get install linux-source-{wanted}, or give an unpacked tree or the package's file with --source"
        raise CapabilityError(
            f"the kernel source package linux-source-{wanted} is not installed{there}", remedy, "no-kernel-source"
        )
    return Source(packages[wanted], wanted)


def _named_version(package: Path) -> str:
    """Return the series in the name of a source package's file.

    Raises:
        UsageError: the name has no series (``not-a-kernel-tree``).
    """
    if match := re.fullmatch(r"linux-(?:source-)?(\d+\.\d+)[^/]*\.(?:deb|tar\.(?:xz|gz|bz2|zst))", package.name):
        return match[1]
    remedy = "give a file like linux-source-7.3.tar.xz or linux-source-7.3_7.3.4-1_all.deb, or an unpacked tree"
    raise UsageError(f"{package} is not a kernel's source package by its name", remedy, "not-a-kernel-tree")


def at_hand() -> dict[str, Path]:
    """Return the source packages on this machine, by series.

    They are installed, or fetched into a cache of kernels (`twlab.engines.kernel.fetch`).
    """
    found: dict[str, Path] = {}
    for folder in (PACKAGES, *(cache / FETCHED for cache in store.caches())):
        for path in sorted(folder.glob("linux-source-*.tar.*")) if folder.is_dir() else ():
            if match := re.fullmatch(r"linux-source-(\d+\.\d+)\.tar\.(?:xz|gz|bz2|zst)", path.name):
                found.setdefault(match[1], path)
    return found


def makefile_version(tree: Path) -> str:
    """Return the version that a kernel tree's Makefile says, ``6.1.192``.

    Raises:
        UsageError: it says none (``not-a-kernel-tree``).
    """
    try:
        text = (tree / "Makefile").read_text()
        parts = [
            re.findall(rf"^{name} *= *(\S*)", text, re.MULTILINE)[0]
            for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL", "EXTRAVERSION")
        ]
    except (OSError, UnicodeDecodeError, IndexError):
        parts = []
    if not parts or not (tree / "arch" / "um").is_dir():
        raise UsageError(
            f"{tree} is not a kernel's source tree",
            "give the folder that has Makefile and arch/um in it",
            "not-a-kernel-tree",
        )
    return ".".join(parts[:3]) + parts[3]


def cannot_unpack(source: Path, folder: Path, reason: str) -> LabError:
    """Return the error of a source that could not be unpacked."""
    if "No space left" in reason:
        return no_space(folder)
    last = reason.strip().splitlines()[-1:] or ["no reason given"]
    return CapabilityError(
        f"{source} cannot be unpacked: {last[0]}",
        "install the source package again, or give another source",
        "broken-source",
    )


def no_space(folder: Path) -> CapabilityError:
    """Return the error of a folder without room to build in."""
    message = f"there is not enough room to build the lab kernel in {folder.parent}"
    return CapabilityError(message, "make room for 2 GB there, or set TMPDIR to a folder on a larger disk", "no-space")


def _files(tree: Path) -> list[Path]:
    """Return all files of a tree, but not git's own."""
    found = []
    for folder, folders, names in os.walk(tree):
        if ".git" in folders:
            folders.remove(".git")
        found += [Path(folder, name) for name in names]
    return found
