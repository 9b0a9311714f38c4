"""Builds the lab kernel: unpack, change, configure, check, compile.

A build counts only when all of it is done.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from twlab.engines.kernel import recipe, store
from twlab.engines.kernel import source as sources
from twlab.engines.kernel.source import Source
from twlab.engines.kernel.store import Kernel
from twlab.errors import CapabilityError, UsageError
from twlab.lab_kernel import require_processor
from twlab.linux import syscalls

Progress = Callable[[float, str], object]

# Program: Debian's package that has it.
TOOLS = {
    "gcc": "gcc",
    "make": "make",
    "flex": "flex",
    "bison": "bison",
    "bc": "bc",
    "xz": "xz-utils",
    "tar": "tar",
    "patch": "patch",
    "strip": "binutils",
    "perl": "perl-base",
}
_STEPS = 1438  # lines that make prints for 6.12 with this configuration: what the bar is measured against
_UNPACKED, _CONFIGURED = 0.06, 0.08  # shares of the time that a build takes
_CLOCK = "time_travel_time"  # arch/um/kernel/time.c; see twlab/engines/guest/liveness.py
_SPACE_B = 1_500_000_000
_FLAGS = (
    "ARCH",
    "CROSS_COMPILE",
    "SUBARCH",
    "MAKEFLAGS",
    "KCFLAGS",
    "CFLAGS",
    "LDFLAGS",
    "KCONFIG_CONFIG",
    "KBUILD_OUTPUT",
    "O",
)


def build(
    source: Path | None = None, version: str | None = None, progress: Progress = lambda share, doing: None
) -> Kernel:
    """Return the lab kernel of a source; build it if it has not been built.

    The source is `source`, or the distribution's source package of `version`.

    Args:
        source: an unpacked kernel tree, which is copied, not changed; or the file of a source
            package.
        version: series of a source package, ``6.1``; None: the newest tested one whose source is
            there, or else the newest.
        progress: called with the share done (0 to 1) and what is being done.

    Raises:
        UsageError: no kernel tree (``not-a-kernel-tree``), or one that the changes do not fit
            (``changes-do-not-fit``).
        CapabilityError: the processor is not x86-64 (``other-processor``), the machine lacks
            programs (``no-build-tools``), the source package (``no-kernel-source``) or space
            (``no-space``), or cannot write to the cache (``no-cache``); the package's source is one
            that the changes (``changes-do-not-fit``) or the options (``options-did-not-take``) do
            not fit, or does not compile (``kernel-does-not-build``).
    """
    require_processor()
    origin = sources.choose(source, version)
    name = f"{origin.version}-{origin.fingerprint()}-{recipe.digest(origin.version)}"
    if kernel := store.kept(name):
        return kernel
    _require_tools()
    with store.claim(name, lambda: progress(0.0, "waiting for another build of the same kernel")) as folder:
        if kernel := store.kept(name):
            return kernel
        room = Path(os.environ.get("TMPDIR") or folder)
        for leftover in {*folder.glob(f".{name}.new-*"), *room.glob(f".{name}.new-*")}:  # of builds that were killed
            shutil.rmtree(leftover, ignore_errors=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}.new-", dir=room, ignore_cleanup_errors=True) as workplace:
            return _build(origin, name, Path(workplace), folder, progress)


def _build(origin: Source, name: str, workplace: Path, folder: Path, progress: Progress) -> Kernel:
    log = folder / f".{name}.log"
    try:
        if shutil.disk_usage(workplace).free < _SPACE_B:
            raise sources.no_space(workplace)
        progress(0.0, f"unpacking Linux {origin.version}")
        origin.unpack(workplace)
        release = sources.makefile_version(workplace)
        change(workplace, release, origin.is_tree)
        progress(_UNPACKED, "configuring")
        configure(workplace, release, used=origin.is_tree)
        progress(_CONFIGURED, f"compiling Linux {release}")
        _compile(
            workplace,
            log,
            lambda share: progress(_CONFIGURED + share * (1 - _CONFIGURED), f"compiling Linux {release}"),
        )
        kernel = _keep(origin, name, workplace, folder)
    except OSError as error:
        raise _system_error(error, workplace) from None
    log.unlink(missing_ok=True)
    progress(1.0, f"Linux {release} is ready")
    return kernel


def change(tree: Path, release: str, chosen: bool) -> None:
    """Make the changes in `tree`, which is of version `release`.

    Raises:
        UsageError, CapabilityError: one does not fit (``changes-do-not-fit``): the former if the
            tree was `chosen` by the user.
    """
    for step in recipe.changes_of(release):
        command = [
            "patch",
            "--strip=1",
            "--batch",
            "--forward",
            "--no-backup-if-mismatch",
            "--reject-file=-",
            f"--directory={tree}",
        ]
        finished = subprocess.run(
            command, input=step.text(release), capture_output=True, text=True, check=False, env=_environment()
        )
        if finished.returncode == 0:
            continue
        if "No space left" in finished.stdout + finished.stderr:
            raise sources.no_space(tree)
        places = [
            file
            for file, said in _by_file(finished.stdout, step.files(release)).items()
            if re.search(r"FAILED|ignored|Skipping", said)
        ]
        at_fault = UsageError if chosen else CapabilityError
        raise at_fault(
            f"the change {step.name} does not fit Linux {release}: {', '.join(places) or finished.stderr.strip()}",
            f"they fit Debian's linux-source-{', -'.join(sources.TESTED)}; "
            "docs/reference/lab-kernel.md says how to carry them to another",
            slug="changes-do-not-fit",
        )


def _by_file(said: str, files: list[str]) -> dict[str, str]:
    """Return what patch said about each file.

    Patch names a file before its hunks. It names a missing one only in the text that it shows of
    the change.
    """
    sections = re.split(r"^(?:patching file |can't find file to patch )", said, flags=re.MULTILINE)[1:]
    return dict(zip(files, sections, strict=False))


def configure(tree: Path, release: str, used: bool) -> None:
    """Write the configuration of `tree`; check that every option took.

    The options are the recipe's.

    Args:
        used: whether something may have been built in `tree`. It is removed, which takes seconds.

    Raises:
        CapabilityError: some options did not (``options-did-not-take``), or no configuration was
            written (``kernel-does-not-build``).
    """
    fragment = tree / "lab.plain.config"
    fragment.write_text("".join(f"{option.setting}\n" for option in recipe.options_of(release)))
    steps: list[list[str]] = [
        *([["make", "ARCH=um", "mrproper"]] if used else []),
        ["make", "ARCH=um", "tinyconfig"],
        ["sh", "scripts/kconfig/merge_config.sh", "-m", ".config", fragment.name],
        ["make", "ARCH=um", "olddefconfig"],
    ]
    for step in steps:
        finished = subprocess.run(
            step, cwd=tree, capture_output=True, text=True, check=False, env=_environment(), stdin=subprocess.DEVNULL
        )
        if finished.returncode != 0:
            raise _does_not_build(release, finished.stdout + finished.stderr, "the output says why")
    lines = set((tree / ".config").read_text().splitlines())
    if lost := [option.setting for option in recipe.options_of(release) if not option.took(lines)]:
        raise CapabilityError(
            f"Linux {release} did not take these options: {', '.join(lost)}",
            "one was renamed there, or depends on another now: change lab.config, "
            f"or build linux-source-{', -'.join(sources.TESTED)}",
            "options-did-not-take",
        )


def _compile(tree: Path, log: Path, progress: Callable[[float], object]) -> None:
    jobs = len(os.sched_getaffinity(0))
    command = ["make", "ARCH=um", f"-j{jobs}", "linux"]
    done = 0
    with (
        log.open("w") as record,
        subprocess.Popen(
            command,
            cwd=tree,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=_environment(),
            preexec_fn=syscalls.die_with_parent,
        ) as make,
    ):
        try:
            assert make.stdout
            for line in make.stdout:
                record.write(line)
                done += line.startswith("  ")
                progress(min(done / _STEPS, 0.99))
        except BaseException:
            make.terminate()  # it ends its compilers
            raise
    if make.returncode != 0:
        text = log.read_text()
        if "No space left" in text:
            raise sources.no_space(tree)
        raise _does_not_build(sources.makefile_version(tree), text, f"the whole output is in {log}")


def _keep(origin: Source, name: str, workplace: Path, folder: Path) -> Kernel:
    """Strip the program, note what it is, and hand both to the store."""
    release = (workplace / "include" / "config" / "kernel.release").read_text().strip()
    with tempfile.TemporaryDirectory(prefix=f".{name}.new-", dir=folder) as made:
        ready = Path(made) / "ready"
        ready.mkdir()
        subprocess.run(
            ["strip", f"--output-file={ready / store.PROGRAM}", workplace / "linux"], check=True, capture_output=True
        )
        facts = {
            "version": release,
            "source": str(origin.path),
            "compiler": subprocess.run(
                ["gcc", "--version"], capture_output=True, text=True, check=True
            ).stdout.splitlines()[0],
            "changes": {change.name: change.subject for change in recipe.changes_of(release)},
            "clock": _address(workplace / "linux", _CLOCK),
            "options": [option.setting for option in recipe.options_of(release)],
        }
        (ready / store.FACTS).write_text(json.dumps(facts, indent=1) + "\n")
        for path, mode in (
            (ready, 0o755),
            (ready / store.PROGRAM, 0o755),
            (ready / store.FACTS, 0o644),
            (folder, 0o755),
            (folder.parent, 0o755),
        ):
            path.chmod(mode)  # for any umask: every user may run a kernel that root has built
        return store.keep(name, ready)


def _address(program: Path, variable: str) -> int | None:
    """Return where `variable` lies in `program`, which is loaded where it was linked.

    It is None if no symbol says so.
    """
    symbols = subprocess.run(["nm", program], capture_output=True, text=True, check=False).stdout
    match = re.search(rf"^([0-9a-f]+) [bBdD] {variable}$", symbols, re.MULTILINE)
    return int(match[1], 16) if match else None


def _require_tools() -> None:
    missing = [package for program, package in TOOLS.items() if not shutil.which(program)]
    if "gcc" not in missing:
        trial = ["gcc", "-x", "c", "-E", "-o", os.devnull, "-"]
        if subprocess.run(
            trial, input="#include <stdio.h>\n#include <linux/if_tun.h>\n", text=True, capture_output=True, check=False
        ).returncode:
            missing.append("libc6-dev")
    if missing:
        message = f"to build the lab kernel, this machine lacks {', '.join(missing)}"
        raise CapabilityError(message, f"apt-get install {' '.join(missing)}", "no-build-tools")


def _environment() -> dict[str, str]:
    """Return the environment of every tool.

    It has no language but English and none of the caller's settings for make. Nothing of this
    machine gets into the program.
    """
    kept = {name: value for name, value in os.environ.items() if name not in _FLAGS}
    fixed = {
        "KBUILD_BUILD_USER": "twlab",
        "KBUILD_BUILD_HOST": "twlab",
        "KBUILD_BUILD_TIMESTAMP": "2024-01-01",
        "KBUILD_BUILD_VERSION": "1",
    }
    return {**kept, **fixed, "LC_ALL": "C"}


def _does_not_build(release: str, text: str, where: str) -> CapabilityError:
    lines = text.splitlines()
    telling = (
        [line for line in lines if re.search(r"\berror\b|\*\*\*|not found", line, re.IGNORECASE)]
        or lines[-1:]
        or ["no output"]
    )
    return CapabilityError(f"Linux {release} does not compile: {telling[0].strip()}", where, "kernel-does-not-build")


def _system_error(error: OSError, workplace: Path) -> CapabilityError:
    if error.errno in (28, 122):  # ENOSPC, EDQUOT
        return sources.no_space(workplace)
    return CapabilityError(f"the lab kernel cannot be built: {error}", "see twlab doctor", "kernel-does-not-build")
