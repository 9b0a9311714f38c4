"""gVisor as a far end: what is missing for it is told in one message."""

import os

import pytest

from twlab.errors import CapabilityError
from twlab.stacks import gvisor


def test_without_go_there_is_one_message(tmp_path, monkeypatch):
    """The message names what is missing, and the remedy the packages."""
    monkeypatch.setattr(gvisor, "kept", lambda: tmp_path / "libexec" / "program")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CapabilityError) as caught:
        gvisor.compiled()
    assert caught.value.slug == "no-gvisor"
    assert "there is no Go" in str(caught.value)
    assert "golang-gvisor-gvisor-dev" in caught.value.remedy


def test_what_go_says_is_told(tmp_path, monkeypatch):
    """Its first line that is not the package's name."""
    go = tmp_path / "go"
    go.write_text("#!/bin/sh\necho '# command-line-arguments' >&2; echo 'gvisor.go:1:1: no' >&2; exit 1\n")
    go.chmod(0o755)
    monkeypatch.setattr(gvisor, "kept", lambda: tmp_path / "libexec" / "program")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(CapabilityError, match=r"compiled: gvisor\.go:1:1: no"):
        gvisor.compiled()


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    """Not even root can make a folder below a file."""
    (tmp_path / "libexec").write_text("")
    monkeypatch.setattr(gvisor, "kept", lambda: tmp_path / "libexec" / "program")
    with pytest.raises(CapabilityError, match="libexec: File exists"):
        gvisor.compiled()


def test_a_changed_program_is_another_one(tmp_path, monkeypatch):
    """The name goes with the source, so that none is run that was compiled from an older one."""
    before = gvisor.kept()
    (tmp_path / "gvisor.go").write_text("package main\n")
    monkeypatch.setattr(gvisor, "SOURCE", tmp_path / "gvisor.go")
    assert gvisor.kept() != before
