"""What the lab kernel is built from: the distribution's source package, or an unpacked tree.
Neither is ever written to.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from twlab.errors import CapabilityError, LabError, UsageError

PACKAGES = Path("/usr/src")
# Debian 12 has both. 6.12 boots and forks twice as fast, and a SYN that a TIME_WAIT socket lets in
# keeps what it owes to that socket: from 4.15 to 6.9, tcp_v4_fill_cb() forgot its initial sequence
# number (mended by 41eecbd712b7).
PREFERRED = ("6.12", "6.1")
# User-mode Linux has none of these devices, and without them a tree takes a third of the space.
# What Kconfig and make read stays.
_LEFT_OUT = [
    f"drivers/{kind}" for kind in ("gpu", "media", "net/ethernet", "net/wireless", "infiniband", "staging", "scsi")
]


@dataclass(frozen=True, slots=True)
class Source:
    """A kernel's source.

    Attributes:
        path: a tar file of the distribution's package, or the top folder of a tree.
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
        """A short name for this source as it is now: it changes with any file's name, size or time
        of change.
        """
        files = sorted(_files(self.path)) if self.is_tree else [self.path]
        seen = hashlib.sha256()
        for file in files:
            status = file.stat(follow_symlinks=False)
            name = file.relative_to(self.path) if self.is_tree else file.name
            seen.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
        return seen.hexdigest()[:12]

    def unpack(self, folder: Path) -> None:
        """Put a copy into `folder`, without the parts that user-mode Linux cannot use. Raises
        CapabilityError (``no-space``, ``broken-source``).
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
            command = [*taking, *left_out, "--strip-components=1", f"--file={self.path}"]
            finished = subprocess.run(command, capture_output=True, text=True, check=False)
            failed = finished.returncode
        if failed:
            raise cannot_unpack(self.path, folder, finished.stderr)


def choose(tree: Path | None = None, version: str | None = None) -> Source:
    """The source to build from: `tree` if given, else the distribution's package of `version`, else
    of 6.12, else of 6.1, else the newest.

    Raises:
        UsageError: `tree` is not a kernel's source with user-mode Linux in it
            (``not-a-kernel-tree``); both are given (``bad-source``).
        CapabilityError: there is no such package (``no-kernel-source``).
    """
    if tree is not None:
        if version is not None:
            raise UsageError(
                "a source tree and a package's version cannot both be given", "leave out --version", "bad-source"
            )
        return Source(tree.resolve(), makefile_version(tree))
    packages = {}
    for path in PACKAGES.glob("linux-source-*.tar.*"):
        if match := re.fullmatch(r"linux-source-(\d[\d.]*)\.tar\.(?:xz|gz|bz2|zst)", path.name):
            packages[match[1]] = path
    by_age = sorted(packages, key=lambda name: [int(part) for part in name.split(".")], reverse=True)
    wanted = version or next((name for name in (*PREFERRED, *by_age) if name in packages), PREFERRED[0])
    if wanted not in packages:
        there = f"; there is {', '.join(f'linux-source-{name}' for name in by_age)}" if packages else ""
        remedy = f"apt-get install linux-source-{wanted}, or give an unpacked tree with --source"
        raise CapabilityError(
            f"the kernel source package linux-source-{wanted} is not installed{there}", remedy, "no-kernel-source"
        )
    return Source(packages[wanted], wanted)


def makefile_version(tree: Path) -> str:
    """The version that a kernel tree's Makefile says, ``6.1.192``. Raises UsageError
    (``not-a-kernel-tree``).
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
    """Why a source could not be unpacked."""
    if "No space left" in reason:
        return no_space(folder)
    last = reason.strip().splitlines()[-1:] or ["no reason given"]
    return CapabilityError(
        f"{source} cannot be unpacked: {last[0]}",
        "install the source package again, or give another source",
        "broken-source",
    )


def no_space(folder: Path) -> CapabilityError:
    """There is no room to build in."""
    message = f"there is not enough room to build the lab kernel in {folder.parent}"
    return CapabilityError(message, "make room for 2 GB there, or set TMPDIR to a folder on a larger disk", "no-space")


def _files(tree: Path) -> list[Path]:
    """All files of a tree, but not git's own."""
    found = []
    for folder, folders, names in os.walk(tree):
        if ".git" in folders:
            folders.remove(".git")
        found += [Path(folder, name) for name in names]
    return found
