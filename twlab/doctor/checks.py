"""Checks what this machine can do, and names a remedy for each lack.

This module prints nothing and changes nothing on the machine. What a kernel can do is tried in a
sandbox (`twlab.doctor.probes`). Its version or its options may be wrong about that either way:
distributions carry changes back and leave options out.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from twlab import lab_kernel
from twlab.doctor import machine
from twlab.engines import sandbox
from twlab.errors import UsageError
from twlab.linux import sysctl
from twlab.linux.programs import find_program

NeededFor = Literal["both", "guest", "host", "extra"]

_SPACE_MB = 200  # a run's captures are a few MB, those of the whole catalogue some tens
_TIMEOUT_S = 20

_EXTRAS = {
    "tshark": ("tshark", "reads captures; Wireshark on another machine does, too"),
    "mn": ("mininet", "runs the topologies under Mininet's own command line"),
    "haproxy": ("haproxy", "scenarios with a real proxy"),
    "nginx": ("nginx-light", "scenarios with a real proxy"),
    "squid": ("squid", "scenarios with a real proxy"),
}

# Probe: what it is called here, and what to do when it fails.
_PROBED = {
    "setting": (
        "sysctls",
        "mount /proc/sys for writing (a container: --security-opt systempaths=unconfined); or use the guest engine",
    ),
    "links": ("virtual links", "load the module: modprobe veth; programs: apt-get install iproute2"),
    "translation": ("NAT", "load the modules: modprobe -a nf_tables nft_masq; library: apt-get install libnftables1"),
    "queueing": (
        "segments queued to a program",
        "load the module: modprobe nfnetlink_queue; programs: apt-get install iptables",
    ),
    "ending": (
        "TIME_WAIT ended early",
        "needs Linux 6.0 or later with CONFIG_INET_DIAG_DESTROY (module tcp_diag); or use the guest engine",
    ),
    "capturing": ("capture without loss", "needs a kernel with CONFIG_PACKET"),
}

# What some topologies need beyond that, on the host engine: probe, name, remedy.
_SOME_NEED = {
    "balancing": (
        "IP Virtual Server on the host engine",
        "as the machine's own root, load the module: modprobe ip_vs; or use the guest engine",
    ),
    "offloading": (
        "flow tables on the host engine",
        "load the modules: modprobe -a nf_flow_table_inet nft_flow_offload; or use the guest engine",
    ),
    "tapping": (
        "TAP devices on the host engine",
        "load the module: modprobe tun, and allow this user to open /dev/net/tun; or use the guest engine",
    ),
}


# Where the kernel is not this system's own, no module can be loaded from within.
_ELSEWHERE = {
    "WSL2": "on WSL2 a module that its kernel lacks takes a kernel of one's own (kernel= in .wslconfig)",
    "container": "in a container, load modules on the machine that runs it",
}
_CONTAINER_RIGHTS = (
    "give the container the right: --privileged, or --security-opt seccomp=unconfined --security-opt "
    "apparmor=unconfined --security-opt systempaths=unconfined"
)
_TAKE_GUEST = "; or use the guest engine"


@dataclass(frozen=True)
class Finding:
    """One thing that this machine has or lacks.

    Attributes:
        name: what was looked at, in a word or two.
        ok: whether it is there and works.
        detail: what was found.
        remedy: what to do about it; empty when `ok`.
        needed_for: the engine that cannot run without it (``guest``, ``host``, ``both``), or
            ``extra``: useful, not needed.
    """

    name: str
    ok: bool
    detail: str
    remedy: str
    needed_for: NeededFor


def examine() -> list[Finding]:
    """Check everything, in under two seconds.

    Never raises: a failed check is a finding, too.
    """
    return [_machine(), _python(), _packages(), _nftables(), *_space(), *_guest(), *_host(), *_extras()]


def usable_engines(findings: list[Finding]) -> list[str]:
    """Return the engines that have all that they need."""
    return [
        engine
        for engine in ("guest", "host")
        if all(finding.ok for finding in findings if finding.needed_for in (engine, "both"))
    ]


def _finding(name: str, needed_for: NeededFor, ok: bool, detail: str, remedy: str) -> Finding:
    if not lab_kernel.is_possible():  # the processor's own finding says that there is no guest engine
        remedy = remedy.replace(_TAKE_GUEST, "")
    return Finding(name, ok, detail, "" if ok else remedy, needed_for)


def _machine() -> Finding:
    return _finding("kind of machine", "extra", True, machine.kind()[1], "")


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    detail = f"{platform.python_version()} at {sys.executable}"
    return _finding("Python", "both", ok, detail, "3.11 or later is needed: make PYTHON=/path/to/python3 lab")


def _packages() -> Finding:
    if not _installed("twlab"):  # run from its folder
        return _finding("Python packages", "both", False, "twlab itself is not installed", "set up: make lab")
    wanted = [re.split(r"[^\w.-]", line)[0] for line in metadata.requires("twlab") or [] if "extra ==" not in line]
    missing = [name for name in wanted if not _installed(name)]
    detail = (
        f"missing: {', '.join(missing)}"
        if missing
        else ", ".join(f"{name} {metadata.version(name)}" for name in wanted)
    )
    return _finding("Python packages", "both", not missing, detail, "set up again: make lab")


def _installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


def _nftables() -> Finding:
    try:
        ctypes.CDLL("libnftables.so.1")
        return _finding("nftables library", "both", True, "libnftables.so.1", "")
    except OSError as error:
        return _finding("nftables library", "both", False, str(error), "apt-get install libnftables1")


def _space() -> list[Finding]:
    found = []
    for purpose, folder in {"runs": os.curdir, "temporary files": os.environ.get("TMPDIR", "/tmp")}.items():
        try:
            free_mb = shutil.disk_usage(folder).free >> 20
            detail = f"{free_mb} MB free in {Path(folder).resolve()}"
        except OSError as error:
            free_mb, detail = 0, str(error)
        found.append(
            _finding(
                f"space for {purpose}", "both", free_mb >= _SPACE_MB, detail, f"make room for {_SPACE_MB} MB there"
            )
        )
    return found


def _guest() -> list[Finding]:
    machine = platform.machine()
    if not lab_kernel.is_possible():
        return [_finding("processor", "guest", False, machine, "the lab kernel is for x86-64; use the host engine")]
    from twlab.engines import kernel
    from twlab.engines.kernel.build import TOOLS

    try:
        built = kernel.find()
        detail = str(built.path) if built else "not built"
    except UsageError as error:  # TWLAB_KERNEL names something else
        built, detail = None, error.message
    lacking = [package for program, package in TOOLS.items() if not shutil.which(program)]
    lacking += [] if list(Path("/usr/src").glob("linux-source-*.tar.*")) else ["linux-source"]
    return [
        _finding("processor", "guest", True, machine, ""),
        _finding("lab kernel", "guest", built is not None, detail, "twlab kernel build"),
        *_processes(),
        _balancing_guest(built.facts().get("options", []) if built else []),
        _finding(
            "building the lab kernel",
            "extra",
            not lacking,
            f"missing: {', '.join(lacking)}" if lacking else "compilers and source are there",
            f"apt-get install {' '.join(lacking)}",
        ),
    ]


def _processes() -> list[Finding]:
    """Check whether a guest can have processes, and whether a stranger's code can be one."""
    refused = machine.ways_to_run_a_guest()
    ways = [name for name, why in refused.items() if not why]
    allow = (
        _CONTAINER_RIGHTS
        if machine.kind()[0] == "container"
        else "allow it: sysctl kernel.yama.ptrace_scope=1, and no filter of system calls around twlab"
    )
    slow = "" if "seccomp" in ways else "; without seccomp it needs a third more processor time"
    return [
        _finding(
            "processes in the lab kernel",
            "guest",
            bool(ways),
            f"by {ways[0]}{slow}" if ways else "; ".join(refused.values()),
            f"{allow}; or use the host engine",
        ),
        _finding(
            "grading of untrusted code",
            "extra",
            not refused["ptrace"],
            refused["ptrace"] or "a guest's processes can be traced",
            allow,
        ),
    ]


def _balancing_guest(options: list[str]) -> Finding:
    """Check whether the lab kernel carries every topology; one built before it could does not."""
    needed = {"CONFIG_IP_VS=y": "the topology ipvs", "CONFIG_NFT_FLOW_OFFLOAD=y": "nat,flowtable=1"}
    lacking = [topology for option, topology in needed.items() if option not in options]
    name = "IP Virtual Server and flow tables in the lab kernel"
    detail = f"cannot carry: {', '.join(lacking)}" if lacking else f"carries {' and '.join(needed.values())}"
    return _finding(name, "extra", not lacking, detail, "twlab kernel build")


def _ask_probes() -> tuple[dict[str, tuple[bool, str]], str]:
    """Return what the probes found, and without a sandbox, nothing and why."""
    command = [
        sys.executable,
        "-m",
        "twlab.engines.sandbox",
        str(os.getpid()),
        sys.executable,
        "-m",
        "twlab.doctor.probes",
    ]
    try:
        finished = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        return (json.loads(finished.stdout) if finished.returncode == 0 else {}), finished.stderr
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return {}, str(error)


def _host() -> list[Finding]:
    found = [_ordinary_users()] if os.getuid() == 0 else []
    kind, _ = machine.kind()
    answers, reason = _ask_probes()
    refusal = sandbox.explain_refusal(reason)
    found.append(
        _finding(
            "namespaces",
            "host",
            bool(answers),
            "user, network, mount, pid" if answers else refusal.message,
            f"{_CONTAINER_RIGHTS}; or use the guest engine" if kind == "container" else refusal.remedy,
        )
    )
    tried: list[tuple[NeededFor, dict[str, tuple[str, str]]]] = [("host", _PROBED), ("extra", _SOME_NEED)]
    for needed_for, probes in tried:
        for probe, (name, remedy) in probes.items():
            ok, detail = answers.get(probe, (False, "cannot be tried without namespaces"))
            if kind in _ELSEWHERE and "modprobe" in remedy:
                remedy = f"{remedy}; {_ELSEWHERE[kind]}"
            found.append(_finding(name, needed_for, ok, detail, remedy))
    return found


def _ordinary_users() -> Finding:
    """Check whether users other than root may make namespaces.

    Three sysctls can forbid it.
    """
    forbidding = {
        "kernel.unprivileged_userns_clone": ("0", "1"),  # Debian
        "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),  # Ubuntu
        "user.max_user_namespaces": ("0", "10000"),
    }
    wrong = [f"{name}={good}" for name, (bad, good) in forbidding.items() if sysctl.read(name) == bad]
    return _finding(
        "namespaces for others than root",
        "extra",
        not wrong,
        "forbidden" if wrong else "allowed",
        f"sysctl {' '.join(wrong)}",
    )


def _extras() -> list[Finding]:
    found = []
    for program, (package, purpose) in _EXTRAS.items():
        path = find_program(program)
        found.append(
            _finding(program, "extra", bool(path), path or f"not there; {purpose}", f"apt-get install {package}")
        )
    return found
