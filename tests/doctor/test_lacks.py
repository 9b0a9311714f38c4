"""Each lack that a machine may have: the doctor says what still works, what does not, and what to
do about it. The probes' answers are made up here; no machine is changed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from twlab.doctor import checks, machine, probes
from twlab.doctor.checks import Finding, examine, usable_engines
from twlab.linux import nftables, sysctl, tcp_sockets, tun

ALL_WELL = dict.fromkeys(probes.PROBES, (True, "works"))
GUEST_HAS = [Finding("lab kernel", True, "built", "", "guest")]
Machine = Callable[..., dict[str, Finding]]


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """`look(...)`: what the doctor finds on a machine where all is well but what is named."""

    def examined(
        kind: str = "machine",
        refused: str = "",
        ways: dict[str, str] | None = None,
        **lacks: str,
    ) -> dict[str, Finding]:
        answers = {**ALL_WELL, **{name: (False, why) for name, why in lacks.items()}}
        monkeypatch.setattr(machine, "kind", lambda: (kind, f"a {kind}"))
        monkeypatch.setattr(machine, "ways_to_run_a_guest", lambda: {"seccomp": "", "ptrace": "", **(ways or {})})
        monkeypatch.setattr(checks, "_ask_probes", lambda: ({}, refused) if refused else (answers, ""))
        monkeypatch.setattr(checks, "_guest", lambda: [*GUEST_HAS, *checks._processes()])
        monkeypatch.setattr(checks, "_extras", list)
        found = examine()
        assert all(bool(one.remedy) != one.ok and one.detail for one in found)
        return {one.name: one for one in found}

    return examined


def lacking(found: dict[str, Finding]) -> set[str]:
    return {name for name, one in found.items() if not one.ok}


def engines(found: dict[str, Finding]) -> list[str]:
    return usable_engines(list(found.values()))


def test_where_all_is_well_nothing_is_missing(look: Machine) -> None:
    """Both engines can run, and there is nothing to do."""
    found = look()
    assert (engines(found), lacking(found)) == (["guest", "host"], set())


def test_no_user_namespaces(look: Machine) -> None:
    """The guest engine is left; the sysctls are named, and no probe pretends to have run."""
    found = look(refused="[Errno 1] Operation not permitted")
    assert engines(found) == ["guest"]
    assert "user.max_user_namespaces" in found["namespaces"].remedy
    assert {name for name, one in found.items() if one.needed_for == "host"} <= lacking(found)
    assert found["NAT"].detail == "cannot be tried without namespaces"


def test_a_container_without_extra_rights(look: Machine) -> None:
    """The same in a container: what helps there is a right of the container's, and no sysctl."""
    found = look(kind="container", refused="[Errno 1] Operation not permitted")
    assert engines(found) == ["guest"]
    assert "--privileged" in found["namespaces"].remedy
    assert "sysctl" not in found["namespaces"].remedy
    assert found["kind of machine"].detail == "a container"


def test_a_container_that_may_not_trace_either(look: Machine) -> None:
    """Neither engine can run: both lines name the right that the container needs."""
    found = look(
        kind="container", refused="no", ways={"seccomp": "seccomp is refused: no", "ptrace": "ptrace is refused: no"}
    )
    assert engines(found) == []
    assert "--privileged" in found["processes in the lab kernel"].remedy


def test_no_ptrace(look: Machine) -> None:
    """The lab kernel runs by seccomp; untrusted code is not graded."""
    found = look(ways={"ptrace": "ptrace is refused: Operation not permitted"})
    assert engines(found) == ["guest", "host"]
    assert lacking(found) == {"grading of untrusted code"}
    assert "ptrace_scope" in found["grading of untrusted code"].remedy
    assert found["processes in the lab kernel"].detail == "by seccomp"


def test_no_seccomp(look: Machine) -> None:
    """The lab kernel runs under ptrace, and the doctor says what that costs."""
    found = look(ways={"seccomp": "seccomp is refused: Invalid argument"})
    assert (engines(found), lacking(found)) == (["guest", "host"], set())
    assert found["processes in the lab kernel"].detail.startswith("by ptrace; without seccomp")


def test_neither_ptrace_nor_seccomp(look: Machine) -> None:
    """The host engine is left, and both reasons are told."""
    found = look(ways={"seccomp": "seccomp is refused: a", "ptrace": "ptrace is refused: b"})
    assert engines(found) == ["host"]
    assert found["processes in the lab kernel"].detail == "seccomp is refused: a; ptrace is refused: b"
    assert "host engine" in found["processes in the lab kernel"].remedy


def test_read_only_sysctls(look: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe writes one; where that fails the host engine cannot run, and the guest can."""

    def refuse(name: str, value: str) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), f"/proc/sys/{name}")

    monkeypatch.setattr(sysctl, "write", refuse)
    ok, why = probes._try(probes.setting)
    found = look(setting=why)
    assert (ok, engines(found)) == (False, ["guest"])
    assert "Read-only file system" in found["sysctls"].detail
    assert "guest engine" in found["sysctls"].remedy


def test_a_kernel_without_inet_diag_destroy(look: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host engine cannot end TIME_WAIT early; the option is named."""
    monkeypatch.setattr(tcp_sockets, "destroyable", lambda: False)
    ok, why = probes._try(probes.ending)
    found = look(ending=why)
    assert (ok, engines(found), lacking(found)) == (False, ["guest"], {"TIME_WAIT ended early"})
    assert "CONFIG_INET_DIAG_DESTROY" in found["TIME_WAIT ended early"].remedy


def test_a_kernel_without_nftables(look: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any exception of the library's is a finding; the modules are named."""

    def refuse(text: str) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(nftables, "apply", refuse)
    ok, why = probes._try(probes.translation)
    found = look(translation=why)
    assert (ok, engines(found), lacking(found)) == (False, ["guest"], {"NAT"})
    assert "modprobe -a nf_tables" in found["NAT"].remedy


@pytest.mark.parametrize(("kind", "words"), [("WSL2", ".wslconfig"), ("container", "machine that runs it")])
def test_a_module_that_is_missing_where_none_can_be_loaded(look: Machine, kind: str, words: str) -> None:
    """On WSL2 and in a container the remedy says where the module has to come from."""
    found = look(kind=kind, queueing="the kernel has no netfilter queue")
    assert engines(found) == ["guest"]
    assert words in found["segments queued to a program"].remedy


def test_wsl2_and_containers_are_told_apart(tmp_path: Path) -> None:
    """By the kernel's release and by the pid namespace; a file that an image left is no proof."""
    own, other = "pid:[4026531836]", "pid:[4026532200]"
    assert machine.kind(tmp_path, "6.6.87.2-microsoft-standard-WSL2", own)[0] == "WSL2"
    assert machine.kind(tmp_path, "6.12.1", own) == ("machine", "a machine of its own, Linux 6.12.1")
    assert machine.kind(tmp_path, "6.12.1", other) == ("container", "a container, Linux 6.12.1")
    (tmp_path / ".dockerenv").touch()
    assert machine.kind(tmp_path, "6.12.1", own)[0] == "machine"
    assert machine.kind(tmp_path, "6.12.1", other) == ("container", "a container of Docker, Linux 6.12.1")


def test_what_the_kernel_says_of_tracing_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tried for real it gives an answer for each way; refused, it gives the kernel's reason."""
    assert set(machine.ways_to_run_a_guest()) == {"seccomp", "ptrace"}
    refusing = f'print(\'{{"seccomp": {errno.EINVAL}, "ptrace": {errno.EPERM}}}\')'
    monkeypatch.setattr(machine, "_TRY", refusing)
    assert machine.ways_to_run_a_guest() == {
        "seccomp": "seccomp is refused: Invalid argument",
        "ptrace": "ptrace is refused: Operation not permitted",
    }
    monkeypatch.setattr(machine, "_TRY", "import sys; sys.exit(3)")
    assert all(why for why in machine.ways_to_run_a_guest().values())


def test_no_tun_device(look: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both engines can run: only gateways of rootless containers need it, and only on the host engine."""
    monkeypatch.setattr(tun, "DEVICE", "/nonexistent/tun")
    ok, why = probes._try(probes.tapping)
    found = look(tapping=why)
    name = "TAP devices on the host engine"
    assert (ok, engines(found), lacking(found)) == (False, ["guest", "host"], {name})
    assert "modprobe tun" in found[name].remedy


def test_twlab_run_from_its_folder_without_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its packages cannot be known then: a finding with the remedy, no traceback."""

    def unknown(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(checks.metadata, "version", unknown)
    found = checks._packages()
    assert (found.ok, found.detail, found.remedy) == (False, "twlab itself is not installed", "set up: make lab")
