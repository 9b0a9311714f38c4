"""The VM for students: what can be said without booting it. `vagrant/trial/up.sh` boots it."""

import inspect
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import ROOT, as_user

from twlab.commands.serve import serve

VAGRANT = ROOT / "vagrant"
VAGRANTFILE = (VAGRANT / "Vagrantfile").read_text()


def test_the_box_is_pinned() -> None:
    """A name and one version of it; with another box from the environment, whichever version there
    is.
    """
    assert re.search(r'fetch\("TWLAB_BOX", "[\w-]+/[\w-]+"\)', VAGRANTFILE)
    assert re.search(r': "\d[\d.]+"\)$', VAGRANTFILE, re.MULTILINE)


@pytest.mark.parametrize("provider", ["virtualbox", "libvirt", "parallels", "vmware_desktop"])
def test_each_provider_is_given_memory_and_processors(provider: str) -> None:
    """The same two numbers for all, and README names the provider."""
    block = VAGRANTFILE.split(f"provider(:{provider})")[1].split("config.vm.provi")[0]
    assert "MEMORY_MB" in block
    assert "CPUS" in block


def test_the_server_is_reached_from_the_hosts_browser_alone() -> None:
    """`twlab serve` listens at the port that is forwarded, on the host's loopback only. README and
    the greeting say the same command and address; the VM has what the server needs.
    """
    port = inspect.signature(serve).parameters["port"].default
    [forwarded] = re.findall(r'network "forwarded_port", (.*)', VAGRANTFILE)
    assert forwarded == f'guest: {port}, host: {port}, host_ip: "127.0.0.1", auto_correct: true'
    for name in ("README.md", "provision.sh"):
        text = (VAGRANT / name).read_text()
        assert "twlab serve --host 0.0.0.0" in text and f"http://localhost:{port}" in text
    assert re.search(r"extras=.\[web\]", (ROOT / "setup" / "install.sh").read_text())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["/nowhere"], "/nowhere is no checkout of twlab"),
        ([str(ROOT), "no-such-user"], "there is no user called no-such-user"),
    ],
)
def test_provisioning_refuses_before_it_changes_anything(arguments: list[str], says: str) -> None:
    """One message with its remedy, status 2."""
    done = provision(arguments)
    assert (done.returncode, says in done.stderr, "remedy:" in done.stderr) == (2, True, True), done.stderr


def test_provisioning_needs_root() -> None:
    """For other users the message says so."""
    done = provision([str(ROOT), "root"], as_user("nobody") if os.geteuid() == 0 else [])
    assert (done.returncode, "you are not root" in done.stderr, "remedy:" in done.stderr) == (3, True, True), (
        done.stderr
    )


def provision(arguments: list[str], prefix: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, "bash", VAGRANT / "provision.sh", *arguments], capture_output=True, text=True, check=False
    )


def test_the_trial_on_arm64_names_all_that_the_machine_lacks(tmp_path: Path) -> None:
    """In one message with a remedy, before anything is fetched; without a folder, how to call it."""
    for name in ("bash", "dirname"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")

    def call(*arguments: str) -> tuple[int, str]:
        command = [str(tmp_path / "bash"), str(VAGRANT / "trial" / "arm64.sh"), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": str(tmp_path)})
        return done.returncode, done.stderr

    status, said = call(str(tmp_path / "machine"))
    assert (status, said.count("remedy: apt-get install")) == (3, 1), said
    assert all(name in said for name in ("qemu-system-arm", "gcc-aarch64-linux-gnu", "golang-go", "cpio"))
    assert not (tmp_path / "machine").exists()
    status, said = call()
    assert (status, "remedy:" in said, "arm64.sh FOLDER [SCENARIO...]" in said) == (2, True, True), said
