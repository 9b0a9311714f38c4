"""Building the lab kernel: what is refused before anything is compiled, what is kept, and what is
found.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT

from twlab.engines import kernel
from twlab.engines.kernel import recipe, source, store
from twlab.engines.kernel.build import change, configure
from twlab.errors import CapabilityError, UsageError

BUILT = store.find()
VERSION = "VERSION = 6\nPATCHLEVEL = 99\nSUBLEVEL = 7\nEXTRAVERSION = -rc1\n"
# A make that configures and compiles at once: it takes every option and makes a small program.
FAKE_MAKE = """#!/bin/sh
case "$*" in
    *tinyconfig*) : >.config ;;
    *olddefconfig*) cat lab.plain.config >.config ;;
    *linux*)
        echo "  CC      one.o"; ${SLOW:-true}
        [ -z "$BROKEN" ] || { echo "one.c:1:1: error: $BROKEN"; exit 2; }
        mkdir -p include/config && echo 6.99.7-twlab >include/config/kernel.release && cp /bin/true linux ;;
esac
"""


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of one's own, and no distribution's packages."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TWLAB_KERNEL", raising=False)
    monkeypatch.setattr(store, "EVERYBODYS", tmp_path / "everybody")
    monkeypatch.setattr(source, "PACKAGES", tmp_path / "packages")
    return tmp_path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What looks like a kernel's tree, and a change that fits it."""
    top = tmp_path / "tree"
    for name, text in {
        "Makefile": VERSION,
        "arch/um/Kconfig": "um\n",
        "net/ipv4/tcp.c": "one\ntwo\nthree\n",
        "scripts/kconfig/merge_config.sh": "",
    }.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text)
    return top


@pytest.fixture
def small_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """In place of the real ones."""
    forget = recipe.digest.cache_clear
    forget()
    path = tmp_path / "0001-two.patch"
    path.write_text(
        "Subject: two\n\n--- a/net/ipv4/tcp.c\n+++ b/net/ipv4/tcp.c\n@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n"
    )
    monkeypatch.setattr(recipe, "changes", lambda: (recipe.Change(path),))
    yield path
    forget()


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_change: Path) -> None:
    """A make that takes no time."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "make").write_text(FAKE_MAKE)
    (programs / "make").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")


def left_in(folder: Path) -> list[str]:
    """What a build left in a cache, but for locks."""
    return sorted(path.name for path in folder.rglob("*") if not path.name.endswith(".lock") and path.is_file())


@pytest.mark.usefixtures("quick")
def test_a_kernel_is_built_once_and_then_looked_up(tree: Path, tmp_path: Path) -> None:
    """The second time nothing is done; the tree is as it was; what is kept says what it is and can
    be run.
    """
    before = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    told: list[tuple[float, str]] = []
    built = kernel.build(tree, progress=lambda share, doing: told.append((share, doing)))
    assert [share for share, _ in told] == sorted(share for share, _ in told)
    assert told[-1] == (1.0, "Linux 6.99.7-rc1 is ready")
    told.clear()
    assert kernel.build(tree, progress=lambda share, doing: told.append((share, doing))) == built
    assert told == []
    assert {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()} == before
    assert left_in(tmp_path / "cache") == ["kernel.json", "linux"]
    assert subprocess.run([built.path], check=False).returncode == 0
    assert kernel.find() == built
    facts = kernel.info()
    assert facts["version"] == "6.99.7-twlab"
    assert facts["source"] == str(tree)
    assert facts["changes"] == ["0001-two: two"]
    assert len(facts["options"]) == len(recipe.options_of("6.99"))


@pytest.mark.usefixtures("quick")
def test_another_tree_or_another_recipe_is_another_kernel(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Touching a file of the tree builds anew; the kernel asked for last is the one found; one of
    another recipe is not found.
    """
    first = kernel.build(tree)
    (tree / "net" / "ipv4" / "tcp.c").write_text("one\ntwo\nthree\nfour\n")
    second = kernel.build(tree)
    assert first != second
    assert kernel.find() == second
    (tree / "net" / "ipv4" / "tcp.c").unlink()
    monkeypatch.setattr(recipe, "digest", lambda release: "0" * 12)
    assert kernel.find() is None


@pytest.mark.usefixtures("quick")
def test_the_kernel_asked_for_last_is_the_one_found(tree: Path, tmp_path: Path) -> None:
    """Also when asking was only a look-up."""
    other = tmp_path / "other"
    shutil.copytree(tree, other)
    (other / "more").write_text("")
    first, second = kernel.build(tree), kernel.build(other)
    assert kernel.find() == second
    assert kernel.build(tree) == first
    assert kernel.find() == first


@pytest.mark.usefixtures("quick")
def test_what_root_has_built_is_looked_up_by_everybody(tree: Path, alone: Path) -> None:
    """A user without a cache, or without programs to build with, is given root's."""
    built = kernel.build(tree)
    (alone / "cache" / "twlab").rename(alone / "everybody")
    (alone / "cache").chmod(0)
    looked_up = kernel.build(tree, progress=lambda share, doing: pytest.fail(doing))
    assert looked_up.path == alone / "everybody" / built.path.relative_to(alone / "cache" / "twlab")
    assert kernel.find() == looked_up
    (alone / "cache").chmod(0o755)


@pytest.mark.usefixtures("quick")
def test_a_package_is_unpacked(tree: Path, tmp_path: Path) -> None:
    """The distribution's tar file: the newest that is tested, or else the newest, or the version
    asked for; unused drivers stay out.
    """
    (tree / "drivers" / "gpu").mkdir(parents=True)
    (tree / "drivers" / "gpu" / "Kconfig").write_text("")
    (tree / "drivers" / "gpu" / "card.c").write_text("")
    packages = tmp_path / "packages"
    packages.mkdir()
    for version, chosen in (
        ("5.9", "5.9"),
        ("5.10", "5.10"),
        ("6.1", "6.1"),
        ("7.4", "6.1"),
        ("6.12", "6.12"),
        ("7.3", "7.3"),
        ("7.2", "7.3"),
    ):
        with tarfile.open(packages / f"linux-source-{version}.tar.xz", "w:xz") as tar:
            tar.add(tree, f"linux-source-{version}")
        assert source.choose().version == chosen
    assert source.choose(version="7.2").path.name == "linux-source-7.2.tar.xz"
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    source.choose().unpack(unpacked)
    assert (unpacked / "drivers" / "gpu" / "Kconfig").exists()
    assert not (unpacked / "drivers" / "gpu" / "card.c").exists()
    assert kernel.build().facts()["source"] == str(packages / "linux-source-7.3.tar.xz")


@pytest.mark.usefixtures("quick")
def test_a_package_that_is_no_more_than_a_file(tree: Path, tmp_path: Path) -> None:
    """What was brought from another machine: the .deb, or the tar file in it. Its name says the
    series.
    """
    inside = tmp_path / "deb" / "usr" / "src"
    inside.mkdir(parents=True)
    brought = tmp_path / "linux-source-7.3.tar.xz"
    with tarfile.open(brought, "w:xz") as tar:
        tar.add(tree, "linux-source-7.3")
    shutil.copy(brought, inside)
    control = tmp_path / "deb" / "DEBIAN" / "control"
    control.parent.mkdir()
    control.write_text(
        "Package: linux-source-7.3\nVersion: 7.3.4-1\nArchitecture: all\nMaintainer: us\nDescription: small\n"
    )
    package = tmp_path / "linux-source-7.3_7.3.4-1_all.deb"
    subprocess.run(["dpkg-deb", "--build", tmp_path / "deb", package], check=True, capture_output=True)
    for file in (brought, package):
        built = kernel.build(file)
        assert built.series == "7.3"
        assert built.facts()["source"] == str(file)
    other = tmp_path / "backup.tar.xz"
    brought.rename(other)
    with pytest.raises(UsageError) as caught:
        kernel.build(other)
    assert caught.value.slug == "not-a-kernel-tree"
    package.write_bytes(b"no package")
    with pytest.raises(CapabilityError) as broken:
        kernel.build(package)
    assert broken.value.slug == "broken-source"


def test_without_a_package_the_remedy_is_the_package() -> None:
    """Nothing is installed without being asked for."""
    with pytest.raises(CapabilityError) as caught:
        kernel.build()
    assert (caught.value.slug, "apt-get install linux-source-6.12" in caught.value.remedy) == ("no-kernel-source", True)
    with pytest.raises(CapabilityError) as caught:
        kernel.build(version="5.10")
    assert "apt-get install linux-source-5.10" in caught.value.remedy


def test_a_damaged_package_is_one_message(tmp_path: Path) -> None:
    """Not a traceback, and nothing is left."""
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "linux-source-6.12.tar.xz").write_bytes(b"no archive")
    with pytest.raises(CapabilityError) as caught:
        kernel.build()
    assert caught.value.slug == "broken-source"
    assert left_in(tmp_path / "cache") == []


@pytest.mark.parametrize("missing", ["Makefile", "arch"])
def test_what_is_no_kernel_tree_is_refused(tree: Path, missing: str) -> None:
    """A folder without a Makefile or without user-mode Linux, and one that does not exist."""
    shutil.rmtree(tree / missing) if missing == "arch" else (tree / missing).unlink()
    for path in (tree, tree / "nowhere"):
        with pytest.raises(UsageError) as caught:
            kernel.build(path)
        assert caught.value.slug == "not-a-kernel-tree"


def test_a_tree_and_a_version_exclude_each_other(tree: Path) -> None:
    """Which of them would be meant?"""
    with pytest.raises(UsageError) as caught:
        kernel.build(tree, "6.12")
    assert caught.value.slug == "bad-source"


def test_a_source_that_the_changes_do_not_fit_is_refused_by_name(tree: Path, tmp_path: Path) -> None:
    """Which change, which of its files; before anything is compiled. The real changes, and a tree
    that has next to nothing of what they change.
    """
    with pytest.raises(UsageError) as caught:
        kernel.build(tree)
    assert caught.value.slug == "changes-do-not-fit"
    assert "0001-tcp-timewait-len does not fit Linux 6.99.7-rc1: " in caught.value.message
    assert all(file in caught.value.message for file in recipe.changes()[0].files("6.99.7"))
    assert left_in(tmp_path / "cache") == []


@pytest.mark.usefixtures("quick")
def test_only_the_files_that_do_not_fit_are_named(tree: Path, small_change: Path) -> None:
    """One file fits, one does not."""
    (tree / "net" / "other.c").write_text("nothing\nlike\nit\n")
    small_change.write_text(
        small_change.read_text() + "--- a/net/other.c\n+++ b/net/other.c\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n"
    )
    with pytest.raises(UsageError) as caught:
        kernel.build(tree)
    assert caught.value.message.endswith("6.99.7-rc1: net/other.c")


@pytest.mark.usefixtures("quick")
def test_an_already_changed_tree_is_refused(tree: Path) -> None:
    """The changes were made there before."""
    (tree / "net" / "ipv4" / "tcp.c").write_text("one\nTWO\nthree\n")
    with pytest.raises(UsageError) as caught:
        kernel.build(tree)
    assert caught.value.slug == "changes-do-not-fit"


@pytest.mark.usefixtures("quick")
def test_every_option_that_did_not_take_is_named(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kconfig drops them silently; the build does not."""
    (tree / "lost").write_text("")
    make = Path(shutil.which("make") or "")
    make.write_text(FAKE_MAKE.replace("cat lab.plain.config", "grep -v -e VETH -e BBR lab.plain.config"))
    with pytest.raises(CapabilityError) as caught:
        kernel.build(tree)
    assert caught.value.slug == "options-did-not-take"
    assert "CONFIG_TCP_CONG_BBR=y, CONFIG_VETH=y" in caught.value.message


@pytest.mark.usefixtures("small_change")
def test_all_missing_programs_are_listed_at_once(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One message, one command to install them."""
    programs = tmp_path / "few"
    programs.mkdir()
    for name in ("gcc", "tar", "xz", "patch", "strip", "perl"):
        (programs / name).symlink_to(shutil.which(name) or "/bin/true")
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(CapabilityError) as caught:
        kernel.build(tree)
    assert (caught.value.slug, caught.value.remedy) == ("no-build-tools", "apt-get install make flex bison bc")


@pytest.mark.usefixtures("quick")
def test_what_does_not_compile_is_told_with_its_first_error(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where the whole output is; nothing counts as built, and the next build begins anew."""
    monkeypatch.setenv("BROKEN", "too clever")
    with pytest.raises(CapabilityError) as caught:
        kernel.build(tree)
    assert caught.value.slug == "kernel-does-not-build"
    assert "one.c:1:1: error: too clever" in caught.value.message
    [log] = (tmp_path / "cache").rglob("*.log")
    assert str(log) in caught.value.remedy
    assert kernel.find() is None
    monkeypatch.delenv("BROKEN")
    assert kernel.build(tree) == kernel.find()
    assert left_in(tmp_path / "cache") == ["kernel.json", "linux"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("when", ["before", "while compiling"])
def test_a_full_disk_is_one_message(tree: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    """Before it begins where that can be seen, else when it happens."""
    if when == "before":
        monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("Usage", "free")(10**8))
    else:
        monkeypatch.setenv("BROKEN", "No space left on device")
    with pytest.raises(CapabilityError) as caught:
        kernel.build(tree)
    assert caught.value.slug == "no-space"


def test_a_cache_that_cannot_be_written_to_is_one_message(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For instance a home that does not exist."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(CapabilityError) as caught:
        kernel.build(tree)
    assert caught.value.slug == "no-cache"


_BUILD = """
import sys
from pathlib import Path
from twlab.engines import kernel
from twlab.engines.kernel import recipe
recipe.changes = lambda: (recipe.Change(Path(sys.argv[2])),)
print(kernel.build(Path(sys.argv[1]), progress=lambda share, doing: print(doing, file=sys.stderr, flush=True)).path)
"""


def start_build(tree: Path, change: Path, **environment: str) -> subprocess.Popen[str]:
    """A build in a process of its own."""
    command = [sys.executable, "-c", _BUILD, str(tree), str(change)]
    return subprocess.Popen(
        command, env={**os.environ, **environment}, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.usefixtures("quick")
def test_two_at_once_build_one_kernel(tree: Path, small_change: Path) -> None:
    """The second waits for the first and takes what it made."""
    both = [start_build(tree, small_change, SLOW="sleep 1") for _ in range(2)]
    outputs = [process.communicate(timeout=30) for process in both]
    assert outputs[0][0] == outputs[1][0] != ""
    assert sum("compiling" in told for _, told in outputs) == 1, outputs
    assert sum("waiting" in told for _, told in outputs) == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_build_leaves_nothing_that_counts(
    tree: Path, small_change: Path, tmp_path: Path, how: signal.Signals
) -> None:
    """Killed in the middle: nothing is found, and the next build does all of it and clears away
    what was left.
    """
    process = start_build(tree, small_change, SLOW="sleep 20")
    assert process.stderr
    while "compiling" not in process.stderr.readline():
        pass
    time.sleep(0.3)
    process.send_signal(how)
    process.wait(timeout=10)
    process.stdout.close() if process.stdout else None
    process.stderr.close()
    assert kernel.find() is None
    assert kernel.build(tree) == kernel.find()
    assert left_in(tmp_path / "cache") == ["kernel.json", "linux"]


def make_kernel(cache: Path, name: str) -> Path:
    """What `store` takes for a kernel."""
    folder = cache / "kernels" / f"{name}-{'a' * 12}-{recipe.digest(name)}"
    folder.mkdir(parents=True)
    shutil.copy("/bin/true", folder / "linux")
    (folder / "kernel.json").write_text(json.dumps({"version": name}))
    return folder / "linux"


def test_what_is_found(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TWLAB_KERNEL before one's own before everybody's; half a kernel does not count."""
    assert kernel.find() is None
    with pytest.raises(CapabilityError) as caught:
        kernel.info()
    assert caught.value.slug == "no-lab-kernel"
    everybodys = make_kernel(alone / "everybody", "6.1")
    assert kernel.find() == kernel.Kernel(everybodys)
    own = make_kernel(alone / "cache" / "twlab", "6.2")
    assert kernel.find() == kernel.Kernel(own)
    (own.parent / "kernel.json").unlink()
    assert kernel.find() == kernel.Kernel(everybodys)
    monkeypatch.setenv("TWLAB_KERNEL", str(own))
    assert kernel.find() == kernel.Kernel(own)
    assert kernel.info()["version"].startswith("true (GNU")  # it is asked
    for wrong in (own.parent, own.parent / "nothing"):
        monkeypatch.setenv("TWLAB_KERNEL", str(wrong))
        with pytest.raises(UsageError) as refused:
            kernel.find()
        assert refused.value.slug == "bad-kernel"


def test_the_newest_kernel_is_found_unless_another_is_named(alone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By series, as numbers, whichever was asked for last; TWLAB_KERNEL may name a series; what is
    chosen is seen by processes started.
    """
    cache = alone / "cache" / "twlab"
    old, newest = make_kernel(cache, "6.12"), make_kernel(cache, "7.10")
    make_kernel(cache, "7.3")
    os.utime(old.parent / "kernel.json")
    assert kernel.find() == kernel.Kernel(newest)
    monkeypatch.setenv("TWLAB_KERNEL", "6.12")
    assert kernel.find() == kernel.Kernel(old)
    assert kernel.select("7.10") == kernel.find() == kernel.Kernel(newest)
    assert os.environ["TWLAB_KERNEL"] == str(newest)
    assert kernel.select(str(old)) == kernel.find() == kernel.Kernel(old)
    with pytest.raises(CapabilityError) as missing:
        kernel.select("7.2")
    assert missing.value.slug == "no-lab-kernel"
    assert "there is 7.10, 7.3, 6.12" in missing.value.message
    assert missing.value.remedy.endswith("twlab kernel build --version 7.2")
    for wrong in ("seven", str(alone)):
        with pytest.raises(UsageError) as refused:
            kernel.select(wrong)
        assert refused.value.slug == "bad-kernel"


def test_a_kernel_of_another_recipe_is_not_listed(alone: Path) -> None:
    """Nor what is half there. What could be built is listed with where its source is."""
    built = make_kernel(alone / "everybody", "6.12")
    make_kernel(alone / "everybody", "6.1").parent.rename(
        alone / "everybody" / "kernels" / f"6.1-{'a' * 12}-{'b' * 12}"
    )
    (alone / "packages").mkdir()
    (alone / "packages" / "linux-source-6.1.tar.xz").write_bytes(b"")
    facts = {"version": "6.12.117-twlab", "source": "a tree"}
    (built.parent / "kernel.json").write_text(json.dumps(facts))
    rows = {row["series"]: row for row in kernel.overview()}
    assert list(rows) == ["7.3", "7.2", "6.12", "6.1"]
    assert [rows[series]["state"] for series in rows] == ["to be fetched", "to be fetched", "built", "source here"]
    assert rows["6.12"] == {"series": "6.12", "state": "built", "path": str(built), "default": True, **facts}
    assert rows["6.1"]["source"] == str(alone / "packages" / "linux-source-6.1.tar.xz")


def test_roots_kernels_are_everybodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless told otherwise, root keeps them where every user finds them, and a user in his own
    home.
    """
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert store.own_cache() == store.EVERYBODYS
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert store.own_cache() == Path("/home/somebody/.cache/twlab")


@pytest.mark.usefixtures("quick")
def test_a_strict_umask_does_not_keep_others_out(tree: Path) -> None:
    """What root has built with umask 077 runs for ``nobody``."""
    before = os.umask(0o077)
    try:
        built = kernel.build(tree)
    finally:
        os.umask(before)
    assert built.path.stat().st_mode & 0o777 == 0o755
    assert all(folder.stat().st_mode & 0o055 == 0o055 for folder in (built.path.parent, built.path.parent.parent))


def test_another_machine_is_told_so(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """User-mode Linux is for x86."""
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(CapabilityError) as caught:
        kernel.build(tree)
    assert caught.value.slug == "other-processor"


@pytest.mark.slow
@pytest.mark.parametrize("version", sorted({"6.1", "6.12"} | (set(source.TESTED) & set(source.at_hand()))))
def test_the_changes_fit_debians_sources(tmp_path: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every change, without a file left over; and every option is known there."""
    monkeypatch.undo()
    try:
        origin = source.choose(version=version)
    except CapabilityError as error:
        pytest.skip(str(error))
    tree = tmp_path / "tree"
    tree.mkdir()
    origin.unpack(tree)
    release = source.makefile_version(tree)
    change(tree, release, chosen=False)
    configure(tree, release, used=False)
    assert not list(tree.rglob("*.rej"))


@pytest.mark.guest
def test_the_kernel_that_was_built_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own version is the one noted, and names the lab; its own configuration has every option."""
    assert BUILT
    monkeypatch.setenv("TWLAB_KERNEL", str(BUILT.path))
    said = subprocess.run([BUILT.path, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    assert said == kernel.info()["version"]
    assert said.endswith("-twlab")
    shown = subprocess.run([BUILT.path, "--showconfig"], capture_output=True, text=True, check=True).stdout
    assert [option.setting for option in recipe.options_of(said) if not option.took(set(shown.splitlines()))] == []
