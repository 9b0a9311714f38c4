"""Fetches a kernel's source package where the machine's own suites do not have it.

Debian brings the newest kernels into suites that a stable machine does not have. apt fetches the
one package from there with folders and a list of sources that exist only while it works: the
machine's own sources, lists and packages stay as they are. The mirror is the machine's own, and the
package is checked against the signatures of the distribution's keyring.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from twlab.engines.kernel import source, store
from twlab.errors import CapabilityError
from twlab.linux import syscalls

# Series to the suites that have, or had, its source package; the first that has it is taken.
SUITES = {
    "7.3": ("trixie-backports", "forky", "sid"),
    "7.2": ("trixie-backports", "forky"),
    "6.12": ("trixie", "bookworm-backports"),
    "6.1": ("bookworm",),
}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
APT = Path("/etc/apt")
_OS_RELEASE = Path("/etc/os-release")
_TIMEOUT_S = 20  # for a mirror to answer


def fetch(series: str, progress: Callable[[float, str], object] = lambda share, doing: None) -> Path:
    """Fetch the source package of `series` into this user's cache.

    If a folder of sources has it already, nothing is fetched.

    Returns:
        The tar file.

    Raises:
        CapabilityError: it cannot be had from here (``no-kernel-source``); the cache cannot be
            written to (``no-cache``).
    """
    if there := source.at_hand().get(series):
        return there
    if series not in SUITES:
        raise _cannot(series, f"no suite is known that has it; those known are of {', '.join(SUITES)}")
    if lacking := [name for name in ("apt-get", "dpkg-deb") if not shutil.which(name)]:
        raise _cannot(series, f"this machine has no {lacking[0]}")
    if not KEYRING.is_file():
        raise _cannot(series, f"the distribution's keyring {KEYRING} is missing")
    mirror = next(mirrors(), None)
    if mirror is None:
        raise _cannot(series, f"no mirror of Debian stands in {APT}")
    with store.claim(
        f"source-{series}", lambda: progress(0.0, "waiting for another fetch of the same source")
    ) as folder:
        if there := source.at_hand().get(series):
            return there
        kept = folder.parent / source.FETCHED
        kept.mkdir(exist_ok=True)
        progress(0.0, f"fetching linux-source-{series}, some 170 MB")
        with tempfile.TemporaryDirectory(prefix=f".source-{series}-", dir=folder) as place:
            tar = source.extract(_download(series, mirror, Path(place)), Path(place))
            tar.chmod(0o644)
            kept.chmod(0o755)
            os.rename(tar, kept / tar.name)
        return kept / tar.name


def mirrors() -> Iterator[str]:
    """Return the addresses from which this machine has its own release of Debian.

    They stand in the order of its lists of sources.
    """
    release = re.search(r"^VERSION_CODENAME=\"?(\w+)", _text(_OS_RELEASE), re.MULTILINE)
    if release is None:
        return
    for path in (APT / "sources.list", *sorted((APT / "sources.list.d").glob("*"))):
        for kinds, addresses, suites, components in _entries(path):
            if "deb" in kinds and release[1] in suites and "main" in components:
                yield from (address for address in addresses if not address.startswith("cdrom:"))


def _entries(path: Path) -> Iterator[tuple[list[str], list[str], list[str], list[str]]]:
    """Read a list of sources, in both forms of sources.list(5).

    Returns:
        Kinds, addresses, suites and components of each entry.
    """
    text = re.sub(r"^[ \t]*#.*\n?", "", _text(path), flags=re.MULTILINE)
    if path.suffix == ".list":
        for line in text.splitlines():
            kind, *words = re.sub(r"\[.*?\]", "", line).split() or [""]
            if len(words) > 2:
                yield [kind], [words[0]], [words[1]], words[2:]
    elif path.suffix == ".sources":
        for stanza in re.split(r"\n\s*\n", text):
            unfolded = re.sub(r"\n[ \t]+", " ", stanza)
            fields = {
                name.lower(): value.split() for name, value in re.findall(r"^([\w-]+):(.*)$", unfolded, re.MULTILINE)
            }
            if fields.get("enabled", ["yes"])[0].lower() not in ("no", "false", "off", "0"):
                yield tuple(fields.get(name, []) for name in ("types", "uris", "suites", "components"))


def _download(series: str, mirror: str, place: Path) -> Path:
    """Download the .deb into `place`, from the first suite that has it."""
    said = ""
    for suite in SUITES[series]:
        options = _configuration(place, mirror, suite)
        for words in (["update"], ["download", f"linux-source-{series}"]):
            command = ["apt-get", f"--config-file={options}", "--quiet", "--yes", *words]
            finished = subprocess.run(
                command,
                cwd=place,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, "LC_ALL": "C"},
                preexec_fn=syscalls.die_with_parent,
            )
            said += finished.stderr
            if finished.returncode:
                break
        if found := sorted(place.glob("linux-source-*.deb")):
            return found[0]
    telling = [line for line in said.splitlines() if line.startswith(("E:", "W:", "Err"))] or ["apt gives no reason"]
    raise _cannot(series, telling[0])


def _configuration(place: Path, mirror: str, suite: str) -> Path:
    """Return a configuration of apt that knows one source: `suite` at `mirror`.

    For it only the folder `place` exists.
    """
    for folder in ("lists/partial", "archives/partial", "parts"):
        (place / folder).mkdir(parents=True, exist_ok=True)
    (place / "one.sources").write_text(
        f"Types: deb\nURIs: {mirror}\nSuites: {suite}\nComponents: main\nSigned-By: {KEYRING}\n"
    )
    settings = {
        "Dir::Etc::sourcelist": place / "one.sources",
        "Dir::Etc::sourceparts": place / "parts",
        "Dir::Etc::preferencesparts": place / "parts",
        "Dir::Etc::preferences": place / "none",
        "Dir::State": place,
        "Dir::State::lists": place / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": place,
        "Dir::Cache::archives": place / "archives",
        "APT::Sandbox::User": "",  # the folder is this user's
        "APT::Update::Error-Mode": "any",
        "Acquire::Languages": "none",
        "Acquire::Retries": 1,
        "Acquire::http::Timeout": _TIMEOUT_S,
        "Acquire::https::Timeout": _TIMEOUT_S,
    }
    hooks = (
        "APT::Update::Pre-Invoke",
        "APT::Update::Post-Invoke",
        "APT::Update::Post-Invoke-Success",
    )  # the machine's own, not for this
    lines = [*(f"#clear {hook};" for hook in hooks), *(f'{name} "{value}";' for name, value in settings.items())]
    options = place / "apt.conf"
    options.write_text("\n".join(lines) + "\n")
    return options


def _cannot(series: str, reason: str) -> CapabilityError:
    suites = f" (Debian's suite {SUITES[series][0]})" if series in SUITES else ""
    remedy = (
        f"fetch the package linux-source-{series}{suites} on a machine that can, with: apt-get download "
        f"linux-source-{series}; "
        f"bring the file here; then: twlab kernel build --source linux-source-{series}_*.deb"
    )
    return CapabilityError(f"the source of Linux {series} cannot be fetched: {reason}", remedy, "no-kernel-source")


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
