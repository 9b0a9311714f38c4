"""Fetching a kernel's source package: from which mirror, without a trace, and what is said where it
cannot be had.
"""

from __future__ import annotations

import importlib
import subprocess
from pathlib import Path

import pytest

from twlab.engines import kernel
from twlab.engines.kernel import source, store
from twlab.engines.kernel.fetch import fetch, mirrors
from twlab.errors import CapabilityError

fetching, providing = (importlib.import_module(f"twlab.engines.kernel.{name}") for name in ("fetch", "provide"))

DEB822 = """Types: deb deb-src
URIs: cdrom:[disk]/ mirror://first/debian
 https://second/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

# Types: deb
Types: deb
URIs: https://off/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb
URIs: https://somebody/else
Suites: stable
Components: main
"""
APT_GET = """#!/bin/sh
# apt-get, with a package or without one. It looks at where it was told to put things.
echo "$@" >>"$CALLS"
config=$(echo "$1" | sed 's/--config-file=//')
cp "$config" "$CALLS.conf"; cp "$(dirname "$config")/one.sources" "$CALLS.sources"
case "$*" in *download*)
    grep -q "Suites: $HAS" "$(dirname "$config")/one.sources" || { echo "E: Unable to locate package" >&2; exit 100; }
    cp "$DEB" . ;;
esac
"""


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with bookworm, a list of sources, and an apt-get that has one package."""
    (tmp_path / "apt" / "sources.list.d").mkdir(parents=True)
    (tmp_path / "apt" / "sources.list.d" / "debian.sources").write_text(DEB822)
    (tmp_path / "os-release").write_text('NAME="Debian"\nVERSION_CODENAME=bookworm\n')
    inside = tmp_path / "deb" / "usr" / "src"
    inside.mkdir(parents=True)
    (inside / "linux-source-7.3.tar.xz").write_bytes(b"a kernel")
    (tmp_path / "deb" / "DEBIAN").mkdir()
    (tmp_path / "deb" / "DEBIAN" / "control").write_text(
        "Package: linux-source-7.3\nVersion: 7.3.4-1\nArchitecture: all\nMaintainer: us\nDescription: small\n"
    )
    package = tmp_path / "linux-source-7.3_7.3.4-1_all.deb"
    subprocess.run(["dpkg-deb", "--build", tmp_path / "deb", package], check=True, capture_output=True)
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "apt-get").write_text(APT_GET)
    (programs / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    for name, value in {
        "CALLS": tmp_path / "calls",
        "DEB": package,
        "HAS": "trixie-backports",
        "XDG_CACHE_HOME": tmp_path / "cache",
    }.items():
        monkeypatch.setenv(name, str(value))
    (tmp_path / "keyring.gpg").write_bytes(b"")
    monkeypatch.setattr(fetching, "KEYRING", tmp_path / "keyring.gpg")
    monkeypatch.setattr(fetching, "APT", tmp_path / "apt")
    monkeypatch.setattr(fetching, "_OS_RELEASE", tmp_path / "os-release")
    monkeypatch.setattr(store, "EVERYBODYS", tmp_path / "everybody")
    monkeypatch.setattr(source, "PACKAGES", tmp_path / "packages")
    return tmp_path


def test_the_mirror_is_the_machines_own(machine: Path) -> None:
    """Of its own release, in either form of list; not a disk, not what is switched off, not another
    distributor's.
    """
    assert list(mirrors()) == ["mirror://first/debian", "https://second/debian"]
    (machine / "apt" / "sources.list").write_text(
        "deb [arch=amd64 signed-by=/k.gpg] http://old/debian bookworm main contrib\n# deb http://no/debian "
        "bookworm main\n"
    )
    assert next(mirrors()) == "http://old/debian"
    (machine / "os-release").write_text("NAME=Other\n")
    assert list(mirrors()) == []


def test_a_package_is_fetched_once(machine: Path) -> None:
    """Into this user's cache, readable by all; the second time it is there. What apt was told
    concerns a folder that is gone.
    """
    fetched = fetch("7.3")
    assert fetched == machine / "cache" / "twlab" / "sources" / "linux-source-7.3.tar.xz"
    assert fetched.read_bytes() == b"a kernel"
    assert fetched.stat().st_mode & 0o777 == 0o644
    assert source.choose().path == fetched
    calls = (machine / "calls").read_text()
    assert calls.count("download linux-source-7.3") == 1
    sources = (machine / "calls.sources").read_text()
    assert "URIs: mirror://first/debian\nSuites: trixie-backports\n" in sources
    assert f"Signed-By: {machine / 'keyring.gpg'}" in sources
    told = (machine / "calls.conf").read_text()
    for setting in ("Dir::Etc::sourcelist", "Dir::Etc::sourceparts", "Dir::State::lists", "Dir::Cache::archives"):
        place = next(line.split('"')[1] for line in told.splitlines() if line.startswith(f"{setting} "))
        assert not Path(place).exists()
    assert fetch("7.3") == fetched
    assert (machine / "calls").read_text() == calls
    assert not [path for path in (machine / "cache" / "twlab" / "kernels").iterdir() if path.is_dir()]


def test_the_next_suite_is_asked(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a package has moved on."""
    monkeypatch.setenv("HAS", "forky")
    assert fetch("7.3").is_file()


@pytest.mark.parametrize("lacking", ["the package", "apt-get", "dpkg-deb", "keyring", "mirror", "suite"])
def test_what_cannot_be_had_is_one_message(machine: Path, monkeypatch: pytest.MonkeyPatch, lacking: str) -> None:
    """Why, how to bring the file, and nothing left behind."""
    series = "5.4" if lacking == "suite" else "7.3"
    if lacking == "the package":
        monkeypatch.setenv("HAS", "nowhere")
    elif lacking in ("apt-get", "dpkg-deb"):
        monkeypatch.setattr("shutil.which", lambda name: None if name == lacking else f"/usr/bin/{name}")
    elif lacking == "keyring":
        (machine / "keyring.gpg").unlink()
    elif lacking == "mirror":
        (machine / "os-release").unlink()
    with pytest.raises(CapabilityError) as caught:
        fetch(series)
    assert caught.value.slug == "no-kernel-source"
    assert f"twlab kernel build --source linux-source-{series}_*.deb" in caught.value.remedy
    assert [path for path in (machine / "cache").rglob("*") if path.is_file() and not path.name.endswith(".lock")] == []


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The versions that were to be built. Building one named in `fails` fails."""
    versions: list[str | None] = []

    def build(given: Path | None, version: str | None, progress: object) -> kernel.Kernel:
        versions.append(version)
        return kernel.Kernel(Path(f"/{version}"))

    monkeypatch.setattr(providing, "build", build)
    return versions


def test_without_a_wish_it_is_the_newest(built: list[str | None]) -> None:
    """Its source is fetched."""
    said: list[str] = []
    assert kernel.provide(say=said.append) == kernel.Kernel(Path("/7.3"))
    assert (built, said) == (["7.3"], [])


def test_the_newest_that_can_be_had(machine: Path, monkeypatch: pytest.MonkeyPatch, built: list[str | None]) -> None:
    """The distribution's, with a line that says why. Where it has none either, the message
    says why the newest cannot be had.
    """
    monkeypatch.setenv("HAS", "nowhere")
    with pytest.raises(CapabilityError) as caught:
        kernel.provide()
    assert caught.value.slug == "no-kernel-source"
    (machine / "packages").mkdir()
    (machine / "packages" / "linux-source-6.12.tar.xz").write_bytes(b"")
    said: list[str] = []
    kernel.provide(say=said.append)
    assert built == ["6.12"]
    assert len(said) == 1
    assert said[0].startswith("the source of Linux 7.3 cannot be fetched: ")
    assert said[0].endswith("so the lab kernel is made of Linux 6.12")


def test_a_version_that_was_asked_for_is_not_replaced(
    machine: Path, monkeypatch: pytest.MonkeyPatch, built: list[str | None]
) -> None:
    """Another one would not be what was asked for."""
    monkeypatch.setenv("HAS", "nowhere")
    (machine / "packages").mkdir()
    (machine / "packages" / "linux-source-6.12.tar.xz").write_bytes(b"")
    with pytest.raises(CapabilityError):
        kernel.provide(version="7.2")
    kernel.provide(version="6.12")
    assert built == ["6.12"]


def test_nothing_is_fetched_for_a_machine_that_cannot_run_it(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor for one whose source was given."""
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(CapabilityError) as caught:
        kernel.provide()
    assert caught.value.slug == "other-processor"
    assert not (machine / "calls").exists()
