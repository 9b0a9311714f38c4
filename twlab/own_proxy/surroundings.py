"""Files, users and names that a configuration expects, made in the engine.

All of it stands in a layer over the machine's files (overlayfs), which ends with the engine. The
machine's files themselves are read-only to the lab, on either engine.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from pathlib import Path

from twlab.linux import syscalls

_WRITABLE = ("/run", "/proc", "/sys", "/dev")
_PASSWD, _GROUP, _HOSTS = Path("/etc/passwd"), Path("/etc/group"), Path("/etc/hosts")
_FIRST_USER = 61_000  # of those that are added


class Surroundings:
    """What the lab makes for the proxy.

    Args:
        work: a folder on a file system of the engine's own, for the layers.

    Attributes:
        made: paths that were not there before.
        refused: paths that could not be made, with the reason.
    """

    def __init__(self, work: Path):
        self.made: list[str] = []
        self.refused: dict[str, str] = {}
        self._work = work
        self._covered: list[Path] = []
        self._root_is_own = False

    def protect(self) -> None:
        """Make the machine's files read-only to all that runs here; raises OSError."""
        syscalls.set_read_only("/", True, recursive=True)
        for path in _WRITABLE:
            try:
                syscalls.set_read_only(path, False, recursive=path != "/sys")
            except OSError as error:
                if error.errno != errno.EINVAL:  # it is no mount of its own
                    raise

    def cover(self, paths: Iterable[str]) -> None:
        """Lay a layer over the folders in which `paths` will be made.

        The outer folders come first: a layer that came later, further out, would hide
        those within.
        """
        folders = {self._existing(Path(path)).resolve() for path in paths}
        for folder in sorted(folders, key=lambda place: len(place.parts)):
            self._writable(folder)

    def write(self, path: str, text: str, *, over: bool = False) -> None:
        """Have a file at `path`; one that is there stays, unless `over`."""
        place = Path(path)
        there = place.exists()
        if there and not over:
            return
        if self._writable(place.parent):
            if place.is_symlink():
                place.unlink()  # what it points to lies outside the layer
            place.write_text(text)
            place.chmod(0o644)
            if not there:
                self.made.append(path)

    def append(self, path: str, text: str) -> None:
        """Append to the file at `path`, or make it."""
        there = Path(path).read_text(errors="replace") if Path(path).is_file() else ""
        self.write(path, f"{there.rstrip()}\n{text}", over=True)

    def folder(self, path: str) -> None:
        """Have a folder at `path` that every user may write to; what is in it stays."""
        if self._writable(Path(path)):
            Path(path).chmod(0o777)

    def output(self, path: str) -> None:
        """Let a file at `path` be written, by any user; one that is there is removed."""
        place = Path(path)
        if self._writable(place.parent):
            place.unlink(missing_ok=True)
            place.parent.chmod(0o777)

    def users(self, users: Iterable[str], groups: Iterable[str]) -> list[str]:
        """Add users and groups that the machine does not have; return their names."""
        known = {line.partition(":")[0] for line in _PASSWD.read_text().splitlines()}
        known_groups = {line.partition(":")[0] for line in _GROUP.read_text().splitlines()}
        number, added = _FIRST_USER, []
        lines, group_lines = "", ""
        for name in sorted(set(users) | set(groups)):
            if name in users and name not in known:
                lines += f"{name}:x:{number}:{number}::/:/usr/sbin/nologin\n"
                added.append(name)
            if name not in known_groups:
                group_lines += f"{name}:x:{number}:\n"
            number += 1
        if lines:
            self.write(str(_PASSWD), _PASSWD.read_text() + lines, over=True)
        if group_lines:
            self.write(str(_GROUP), _GROUP.read_text() + group_lines, over=True)
        return added

    def hosts(self, names: Mapping[str, str]) -> None:
        """Have host names resolve to addresses, by the hosts file alone.

        localhost has one address: HAProxy would take ::1 of two, and nginx each in turn, where an
        origin is at 127.0.0.1.
        """
        lines = "".join(f"{address} {name}\n" for name, address in {"localhost": "127.0.0.1", **names}.items())
        self.write(str(_HOSTS), lines, over=True)
        self.write("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n", over=True)

    def _writable(self, folder: Path) -> bool:
        """Make `folder`, in a layer over the machine's files; False where that is not possible."""
        try:
            resolved = self._existing(folder).resolve()
            if resolved == Path("/"):
                self._open_root()
                if folder == resolved:
                    return True
                resolved = Path(*folder.parts[:2])
                self._covered.append(resolved)
            own = Path("/run") in (resolved, *resolved.parents)
            if not own and not any(layer in (resolved, *resolved.parents) for layer in self._covered):
                self._cover(resolved)
            folder.mkdir(parents=True, exist_ok=True)
            return True
        except OSError as error:
            self.refused[str(folder)] = error.strerror or str(error)
            return False

    @staticmethod
    def _existing(folder: Path) -> Path:
        """Return `folder`, or the nearest one above it that is there."""
        return next(place for place in (folder, *folder.parents) if place.is_dir())

    def _open_root(self) -> None:
        """Move to a root folder of the engine's own, with all that is in the machine's."""
        if self._root_is_own:
            return
        root = self._work / "root"
        root.mkdir()
        syscalls.mount("tmpfs", str(root), "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
        for place in sorted(Path("/").iterdir(), key=lambda place: place.name != "run"):  # which has the new root
            syscalls.show(str(place), str(root / place.name))
        syscalls.change_root(str(root))
        self._root_is_own = True

    def _cover(self, place: Path) -> None:
        layers = self._work / f"layer-{len(self._covered)}"
        for name in ("upper", "work"):
            (layers / name).mkdir(parents=True)
        data = f"lowerdir={place},upperdir={layers}/upper,workdir={layers}/work"
        syscalls.mount("overlay", str(place), "overlay", 0, data)
        self._covered.append(place)
