"""The doctor: every line says what was found, and every failure what to do."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, as_user

from twlab.doctor import checks
from twlab.doctor.checks import Finding, examine, usable_engines
from twlab.doctor.machine import kind
from twlab.linux.programs import find_program

AS_JSON = (
    "import json; from dataclasses import asdict; from twlab.doctor.checks import examine; "
    "print(json.dumps([asdict(f) for f in examine()]))"
)


def machine_network() -> list[str]:
    commands = (["ip", "-d", "link"], ["ip", "addr"], ["nft", "list", "ruleset"])
    return [subprocess.run(command, capture_output=True, text=True, check=False).stdout for command in commands]


def by_name(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.name: finding for finding in findings}


def test_every_failure_has_a_remedy_and_every_line_a_detail() -> None:
    """A finding names what was found; one that is not ok says what to do; one that is ok says
    nothing more.
    """
    for finding in examine():
        assert finding.name and finding.detail
        assert bool(finding.remedy) != finding.ok, finding


def test_names_are_unique() -> None:
    """A finding is known by its name."""
    names = [finding.name for finding in examine()]
    assert len(names) == len(set(names))


@pytest.mark.host
def test_the_host_engine_can_run_here() -> None:
    """Where tests marked `host` run, the doctor says that the host engine can, and each of its
    probes has worked.
    """
    findings = examine()
    assert "host" in usable_engines(findings), [f for f in findings if not f.ok and f.needed_for in ("host", "both")]


@pytest.mark.host
def test_an_ordinary_user_gets_the_same_answers(ordinary_user: str) -> None:
    """What the host engine needs works without root too."""
    command = [*as_user(ordinary_user), sys.executable, "-c", AS_JSON]
    done = subprocess.run(command, capture_output=True, text=True, cwd="/", env=environment(), check=True)
    findings = [Finding(**values) for values in json.loads(done.stdout)]
    assert not [f for f in findings if not f.ok and f.needed_for == "host"]


@pytest.mark.host
def test_examining_changes_nothing_and_is_quick() -> None:
    """The machine's own network is the same before and after, and it computes for less than two
    seconds, all probes together.
    """
    before = machine_network()
    start_s = sum(os.times()[:4])
    examine()
    assert sum(os.times()[:4]) - start_s < 2
    assert machine_network() == before


def test_the_probes_refuse_to_run_outside_a_sandbox() -> None:
    """Started by hand, in the machine's own namespaces, they touch nothing and say why."""
    before = machine_network()
    done = subprocess.run(
        [sys.executable, "-m", "twlab.doctor.probes"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "sandbox" in done.stderr
    assert machine_network() == before


@pytest.mark.host
def test_without_namespaces_the_host_engine_is_out_and_the_remedy_fits_the_machine() -> None:
    """Where user namespaces are used up, an ordinary user is told which sysctls to set, in a container
    which rights to give it, and no probe pretends to have run.
    """
    script = (
        f"echo 0 > /proc/sys/user/max_user_namespaces; exec setpriv --bounding-set=-all --inh-caps=-all "
        f"{sys.executable} -c '{AS_JSON}'"
    )
    wrapped = ["unshare", "--user", "--map-users=auto", "--map-root-user", "sh", "-c", script]
    if subprocess.run([*wrapped[:4], "true"], capture_output=True, check=False).returncode:
        wrapped[2:4] = ["--map-root-user"]
    done = subprocess.run(wrapped, capture_output=True, text=True, cwd="/", env=environment(), check=False)
    assert done.returncode == 0, done.stderr
    findings = by_name([Finding(**values) for values in json.loads(done.stdout)])
    assert not findings["namespaces"].ok
    assert ("--privileged" if kind()[0] == "container" else "sysctl") in findings["namespaces"].remedy
    assert not findings["NAT"].ok
    assert "host" not in usable_engines(list(findings.values()))


def test_without_iptables_and_ip_the_probes_say_so() -> None:
    """A missing program is named, not taken for a missing kernel feature."""
    script = (
        'for folder in /usr/local/sbin /usr/sbin; do mount -t tmpfs none $folder; done; PATH=/nonexistent exec "$@"'
    )
    without = ["unshare", *([] if os.getuid() == 0 else ["--map-root-user"]), "--mount", "sh", "-c", script, "sh"]
    words = [*without, sys.executable, "-c", AS_JSON]
    done = subprocess.run(words, capture_output=True, text=True, cwd="/", env=environment(), check=True)
    findings = by_name([Finding(**values) for values in json.loads(done.stdout)])
    assert findings["virtual links"].detail == "there is no program called ip"
    assert "gcc" in findings["building the lab kernel"].remedy


def test_an_ordinary_users_path_hides_no_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the PATH of an ordinary user of Debian, what lies in /usr/sbin is found all the same:
    iptables, proxies.
    """
    full = {finding.name: finding.ok for finding in examine()}
    monkeypatch.setenv(
        "PATH", f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin:/usr/local/games:/usr/games"
    )
    assert shutil.which("ldconfig") is None, "a program that the administrator's folder alone has"
    assert str(find_program("ldconfig")).endswith("/sbin/ldconfig")
    assert {finding.name: finding.ok for finding in examine()} == full


def test_too_little_space_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with less room than a run needs is named with what it has."""
    monkeypatch.setattr(checks, "_SPACE_MB", 1 << 40)
    assert not by_name(examine())["space for runs"].ok
    assert usable_engines(examine()) == []


def test_engines_are_usable_when_nothing_they_need_is_missing() -> None:
    """Extras never count, `both` counts for either."""
    fine = Finding("a", True, "there", "", "both")
    assert usable_engines([fine, Finding("b", False, "-", "get it", "extra")]) == ["guest", "host"]
    assert usable_engines([fine, Finding("b", False, "-", "get it", "host")]) == ["guest"]
    assert usable_engines([Finding("b", False, "-", "get it", "both")]) == []


def environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/nonexistent", "TMPDIR": str(Path("/tmp"))}
