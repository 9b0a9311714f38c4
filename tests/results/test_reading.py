"""A capture is read back: whole, cut short, foreign, missing."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

from twlab.errors import UsageError
from twlab.results.pcapng import read_capture

RUN = ROOT / "tests" / "data" / "runs" / "stale-data"


def test_a_recorded_capture_is_read() -> None:
    """The first SYN comes from the client's side, just after the arm began, and bears its comment."""
    first, second, *_ = read_capture(RUN / "treatment.pcapng")
    assert (first.interface, first.outbound, first.segment.flags, first.comment) == (
        "wire-client",
        False,
        "S",
        "copied by the wire",
    )
    assert (second.interface, second.outbound, second.segment.seq) == ("wire-server", True, first.segment.seq)
    assert 0 < first.segment.at_s < 1


@pytest.mark.parametrize("bytes_kept", [13, 200, 1001, -2])
def test_a_capture_cut_short_is_told(tmp_path: Path, bytes_kept: int) -> None:
    """Wherever it was cut within a block, it is called broken."""
    cut = tmp_path / "cut.pcapng"
    cut.write_bytes((RUN / "treatment.pcapng").read_bytes()[:bytes_kept])
    with pytest.raises(UsageError) as caught:
        read_capture(cut)
    assert caught.value.slug == "broken-capture"


@pytest.mark.parametrize("data", [b"", b"GIF89a", b"\xd4\xc3\xb2\xa1" + bytes(20)])
def test_a_file_of_another_kind_is_told(tmp_path: Path, data: bytes) -> None:
    """What does not begin as a pcapng file is foreign, not broken."""
    (tmp_path / "x.pcapng").write_bytes(data)
    with pytest.raises(UsageError) as caught:
        read_capture(tmp_path / "x.pcapng")
    assert caught.value.slug == "foreign-capture"


def test_a_missing_capture_is_told(tmp_path: Path) -> None:
    """No file: said so, by name."""
    with pytest.raises(UsageError) as caught:
        read_capture(tmp_path / "x.pcapng")
    assert caught.value.slug == "no-capture-file"


@pytest.mark.skipif(shutil.which("tshark") is None, reason="no tshark here")
def test_every_filter_of_the_wireshark_page_is_one() -> None:
    """tshark takes each of them; the first, which asks for all that the lab did, finds the copy and
    what it is a copy of.
    """
    filters = re.findall(
        r"^\| [^`|]*\| `([^`]+)` \|$", (ROOT / "docs" / "guides" / "wireshark.md").read_text(), re.MULTILINE
    )
    found = [
        subprocess.run(
            ["tshark", "-r", RUN / "treatment.pcapng", "-Y", one, "-T", "fields", "-e", "frame.comment"],
            capture_output=True,
            text=True,
        )
        for one in filters
    ]
    assert len(filters) >= 10 and [one.stderr for one in found if one.returncode] == []
    assert "copied by the wire" in found[0].stdout and "copy of the packet" in found[0].stdout
