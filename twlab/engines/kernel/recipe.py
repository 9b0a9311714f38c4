"""What the lab kernel is built with: its configuration and its changes.

The configuration is `lab.config`; the changes are in `patches/`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_HERE = Path(__file__).parent
_LINE = re.compile(r'(?P<setting>CONFIG_\w+=(?:"[^"]*"|\S+)|# CONFIG_\w+ is not set)\s+# (?P<reason>\S.*)')
_SINCE_OR_BEFORE = r"(?:(?P<since>\d+\.\d+) and later|before (?P<before>\d+\.\d+))"
_OPTION_RANGE = re.compile(_SINCE_OR_BEFORE + ": ")
_SECTION_RANGE = re.compile(rf"^For Linux {_SINCE_OR_BEFORE}\.\n", re.MULTILINE)
_SECTIONS = re.compile(r"^(?=--- a/)", re.MULTILINE)


def series(release: str) -> tuple[int, int]:
    """Return the series of a release as two numbers: (7, 3) of ``7.3.4-twlab``.

    Raises:
        ValueError: it is no release of Linux.
    """
    match = re.match(r"(\d+)\.(\d+)", release)
    if match is None:
        raise ValueError(f"{release!r} is no release of Linux")
    return int(match[1]), int(match[2])


@dataclass(frozen=True, slots=True)
class Range:
    """The kernels that an option or a change is for.

    Attributes:
        since: the first series that is in it; None: no such bound.
        before: the first series past it; None: no such bound.
    """

    since: str | None = None
    before: str | None = None

    def has(self, release: str) -> bool:
        """Return whether `release`, ``7.3.4``, lies in the range."""
        number = series(release)
        return (self.since is None or number >= series(self.since)) and (
            self.before is None or number < series(self.before)
        )


@dataclass(frozen=True, slots=True)
class Option:
    """A line of the configuration.

    Attributes:
        setting: as Kconfig writes it.
        reason: why it is there.
        range: the kernels that it is for.
    """

    setting: str
    reason: str
    range: Range = Range()

    @property
    def name(self) -> str:
        """The option's name: ``CONFIG_NET``."""
        return re.findall(r"CONFIG_\w+", self.setting)[0]

    def took(self, lines: set[str]) -> bool:
        """Return whether the option took, by the lines of a finished ``.config``.

        An option that this kernel does not know is not set.
        """
        if self.setting.startswith("#"):
            return not any(line.startswith(f"{self.name}=") for line in lines)
        return self.setting in lines


@dataclass(frozen=True, slots=True)
class Change:
    """A change to the kernel's source.

    Where kernels differ, the file has a section for each range of them. Such a section's last line
    of prose says which: ``For Linux 7.3 and later.`` or ``For Linux before 6.18.``
    """

    path: Path

    @property
    def name(self) -> str:
        """The change's name: ``0001-tcp-timewait-len``."""
        return self.path.stem

    @property
    def subject(self) -> str:
        """What it is, in one line."""
        return next(
            line.removeprefix("Subject: ")
            for line in self.path.read_text().splitlines()
            if line.startswith("Subject: ")
        )

    def text(self, release: str) -> str:
        """Return the patch for `release`, without the sections for other kernels."""
        head, *bodies = _SECTIONS.split(self.path.read_text())
        chosen, prose = [], head
        for body in bodies:
            # The prose before a file's name belongs to that file; it follows the hunks of the file
            # before.
            hunks, following = _parted(body)
            match = _SECTION_RANGE.search(prose)
            if match is None or Range(match["since"], match["before"]).has(release):
                chosen.append(_SECTION_RANGE.sub("", prose) + hunks)
            prose = following
        return "".join(chosen) + prose

    def files(self, release: str) -> list[str]:
        """Return the files that it changes in `release`, relative to the kernel's tree."""
        return re.findall(r"^\+\+\+ b/(\S+)", self.text(release), re.MULTILINE)


def _parted(body: str) -> tuple[str, str]:
    """Part a file's hunks from what follows them."""
    end = re.search(r"^$|^[^-+@ \n\\]", body, re.MULTILINE)
    return (body[: end.start()], body[end.start() :]) if end else (body, "")


@cache
def options() -> tuple[Option, ...]:
    """Return all options, in order.

    Raises:
        ValueError: a line has no reason; the message names it.
    """
    found = []
    for number, line in enumerate((_HERE / "lab.config").read_text().splitlines(), 1):
        if match := _LINE.fullmatch(line):
            ranged = _OPTION_RANGE.match(match["reason"])
            limits = Range(ranged["since"], ranged["before"]) if ranged else Range()
            found.append(Option(match["setting"], match["reason"], limits))
        elif "CONFIG_" in line:
            raise ValueError(f"lab.config:{number}: no option with a reason: {line}")
    return tuple(found)


def options_of(release: str) -> list[Option]:
    """Return the options of a kernel of `release`, in order."""
    return [option for option in options() if option.range.has(release)]


@cache
def changes() -> tuple[Change, ...]:
    """Return all changes, in the order in which they are made."""
    return tuple(Change(path) for path in sorted((_HERE / "patches").glob("*.patch")))


def changes_of(release: str) -> list[Change]:
    """Return the changes to a kernel of `release`, in order.

    A change that only has sections for other kernels is left out.
    """
    return [change for change in changes() if change.files(release)]


@cache
def digest(release: str) -> str:
    """Return a short name for the configuration and the changes of a release.

    It is the name of exactly these: 12 hexadecimal digits.
    """
    parts = [option.setting for option in options_of(release)] + [
        change.text(release) for change in changes_of(release)
    ]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
