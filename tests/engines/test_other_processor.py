"""A machine that is not x86-64 has no lab kernel: every command that wants it says so once, and the
host engine is the default. The processor's name is made up here.
"""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from twlab.doctor import checks
from twlab.engines import choose, kernel_path
from twlab.errors import CapabilityError
from twlab.linux import sysctl, tun
from twlab.settings import Settings
from twlab.tuning import apply

ON_ARM64 = "import platform; platform.machine = lambda: 'aarch64'; from twlab.cli import main; main()"
SAYS = "the lab kernel is for x86-64, and this processor is aarch64"


@pytest.fixture
def arm64(monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine's processor is an arm64 one, as far as Python is asked."""
    monkeypatch.setattr("platform.machine", lambda: "aarch64")


@pytest.mark.parametrize(
    "command",
    [
        ["run", "stale-data", "--engine", "guest"],
        ["run", "stale-data", "--kernel", "7.3"],
        ["shell", "pair", "--engine", "guest"],
        ["sweep", "stale-segment"],
        ["ceiling"],
        ["alternatives", "tw-reuse"],
        ["compare", "stale-data"],
        ["kernel", "build"],
        ["kernel", "info"],
        ["kernel", "boot"],
        ["serve"],
    ],
    ids=" ".join,
)
def test_a_command_for_the_lab_kernel_says_that_there_is_none(command: list[str], tmp_path: Path) -> None:
    """One message, exit status 3, and nothing of it advises to build a kernel."""
    done = subprocess.run(
        [sys.executable, "-c", ON_ARM64, *command],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert SAYS in done.stderr and "host engine" in done.stderr and "[other-processor]" in done.stderr
    assert "kernel build" not in done.stderr and "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_host_engine_is_the_default(arm64: None) -> None:
    """Where none is named; one that is named stays an error."""
    assert choose(agent="twlab.run.agent").name == "host"
    with pytest.raises(CapabilityError, match=SAYS):
        choose("guest", agent="twlab.run.agent")
    with pytest.raises(CapabilityError, match=SAYS):
        kernel_path()


def test_the_doctor_says_it_in_one_line(arm64: None) -> None:
    """No finding about building or processes of a kernel that cannot be."""
    [found] = checks._guest()
    assert (found.name, found.ok, found.detail, found.needed_for) == ("processor", False, "aarch64", "guest")
    assert "x86-64" in found.remedy and "host engine" in found.remedy


def test_no_remedy_is_the_engine_that_is_not_there(arm64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all that can lack, on a machine with nothing; every lack still has a remedy."""
    monkeypatch.setattr(checks, "_ask_probes", lambda: ({}, "[Errno 1] Operation not permitted"))
    for kind in ("machine", "container"):
        monkeypatch.setattr(checks.machine, "kind", lambda kind=kind: (kind, kind))
        found = [one for one in checks.examine() if not one.ok]
        assert len(found) > 8
        assert [one.name for one in found if "guest engine" in one.remedy or not one.remedy] == []


@pytest.mark.parametrize("on_x86", [True, False], ids=["x86-64", "arm64"])
def test_an_error_advises_the_guest_engine_where_there_is_one(
    on_x86: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kernel lacks has another remedy then, or names a machine that can."""
    monkeypatch.setattr("platform.machine", lambda: "x86_64" if on_x86 else "aarch64")
    monkeypatch.setattr(sysctl, "exists", lambda name: False)
    monkeypatch.setattr(tun, "DEVICE", str(tmp_path / "tun"))
    with pytest.raises(CapabilityError) as no_tun:
        tun.check()
    [no_ipvs] = apply.missing(Settings(ipvs_conntrack=1))
    [no_sysctl] = apply.missing(Settings(tw_reuse_delay_ms=100))
    found = [error.remedy for error in (no_tun.value, no_ipvs, no_sysctl)]
    assert [remedy.startswith("modprobe tun") or "on another kernel" in remedy for remedy in found] == [
        True,
        False,
        True,
    ]
    assert ["--engine guest" in remedy for remedy in found] == [True, True, True] if on_x86 else [False, True, False]
    assert ("x86-64 machine" in no_ipvs.remedy) is not on_x86


def test_one_module_words_the_remedy_of_the_guest_engine() -> None:
    """It knows the processor; an error that names the engine by itself advises it on any."""
    naming = set()
    for path in (ROOT / "twlab").rglob("*.py"):
        texts = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        if any(re.search("--engine guest|use the lab kernel", text) for text in texts if isinstance(text, str)):
            naming.add(path.name)
    assert naming == {"lab_kernel.py"}


@pytest.mark.parametrize(
    ("machine", "expected"), [("x86_64", (155, 314)), ("aarch64", (41, 274)), ("riscv64", (41, 274))]
)
def test_system_calls_have_the_numbers_of_the_processor(machine: str, expected: tuple[int, int]) -> None:
    """Those that the C library has no function for: pivot_root and sched_setattr, of the kernel's
    arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h.
    """
    asked = "import os; from types import SimpleNamespace; os.uname = lambda: SimpleNamespace(machine={!r}); "
    asked += "from twlab.linux import syscalls; print(syscalls._SYS_PIVOT_ROOT, syscalls._SYS_SCHED_SETATTR)"
    done = subprocess.run(
        [sys.executable, "-c", asked.format(machine)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert tuple(map(int, done.stdout.split())) == expected
