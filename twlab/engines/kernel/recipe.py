"""What the lab kernel is built with: the configuration `lab.config` and the changes in `patches/`."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
_LINE = re.compile(r'(?P<setting>CONFIG_\w+=(?:"[^"]*"|\S+)|# CONFIG_\w+ is not set)\s+# (?P<reason>\S.*)')


@dataclass(frozen=True, slots=True)
class Option:
    """A line of the configuration: the setting as Kconfig writes it, and why it is there."""

    setting: str
    reason: str

    @property
    def name(self) -> str:
        """``CONFIG_NET``"""
        return re.findall(r"CONFIG_\w+", self.setting)[0]

    def took(self, lines: set[str]) -> bool:
        """Whether `lines`, those of a finished ``.config``, have it. An option that this kernel
        does not know is not set.
        """
        if self.setting.startswith("#"):
            return not any(line.startswith(f"{self.name}=") for line in lines)
        return self.setting in lines


@dataclass(frozen=True, slots=True)
class Change:
    """A change to the kernel's source."""

    path: Path

    @property
    def name(self) -> str:
        """``0001-tcp-timewait-len``"""
        return self.path.stem

    @property
    def subject(self) -> str:
        """What it is, in one line."""
        return next(
            line.removeprefix("Subject: ")
            for line in self.path.read_text().splitlines()
            if line.startswith("Subject: ")
        )

    @property
    def files(self) -> list[str]:
        """The files that it changes, relative to the kernel's tree."""
        return re.findall(r"^\+\+\+ b/(\S+)", self.path.read_text(), re.MULTILINE)


@cache
def options() -> tuple[Option, ...]:
    """All options, in order. Raises ValueError for a line without a reason, naming it."""
    found = []
    for number, line in enumerate((_HERE / "lab.config").read_text().splitlines(), 1):
        if match := _LINE.fullmatch(line):
            found.append(Option(match["setting"], match["reason"]))
        elif "CONFIG_" in line:
            raise ValueError(f"lab.config:{number}: no option with a reason: {line}")
    return tuple(found)


@cache
def changes() -> tuple[Change, ...]:
    """All changes, in the order in which they are made."""
    return tuple(Change(path) for path in sorted((_HERE / "patches").glob("*.patch")))


@cache
def digest() -> str:
    """A short name for exactly this configuration and these changes, 12 hexadecimal digits."""
    parts = [option.setting for option in options()] + [change.path.read_text() for change in changes()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
