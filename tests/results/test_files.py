"""Result files: whole or not at all, on a full disk, too; and a place is checked without a trace."""

import os
import stat
import subprocess
import sys

import pytest

from twlab.errors import CapabilityError
from twlab.results import files


def test_files_are_written_with_their_folders(tmp_path):
    """Text and bytes; readable by others, and nothing else beside them."""
    files.write_all({tmp_path / "a" / "one.json": "{}\n", tmp_path / "a" / "b" / "two.png": b"\x89PNG"})
    assert (tmp_path / "a" / "one.json").read_text() == "{}\n"
    assert (tmp_path / "a" / "b" / "two.png").read_bytes() == b"\x89PNG"
    assert stat.S_IMODE((tmp_path / "a" / "one.json").stat().st_mode) & 0o044 == 0o044 & ~_umask()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "b", "one.json", "two.png"]


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_failure_keeps_the_old_files_and_leaves_no_part(tmp_path):
    """The second file cannot be written: the first is as it was, and no folder is new."""
    first = tmp_path / "first.json"
    first.write_text("old")
    (tmp_path / "wall").write_text("")
    with pytest.raises(CapabilityError, match=r"stands in the way|Not a directory") as caught:
        files.write_all({first: "new", tmp_path / "wall" / "second.csv": "x"})
    assert caught.value.slug == "cannot-write"
    assert first.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.json", "wall"]


def test_an_interruption_leaves_no_part(tmp_path):
    """Ctrl-C while a file is written."""
    (tmp_path / "x").write_text("old")
    with pytest.raises(KeyboardInterrupt), files.replacing(tmp_path / "x") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "old")]


def test_a_link_is_followed_and_a_device_is_no_file(tmp_path):
    """What a link names is replaced, and the link stays; a pipe is written to."""
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    files.check_file(tmp_path / "pipe")
    files.write_all({tmp_path / "link": "new", tmp_path / "pipe": "through"})
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "new"
    assert (os.read(reader, 100), (tmp_path / "pipe").is_fifo()) == (b"through", True)
    os.close(reader)


def test_a_name_that_is_no_text_is_written_all_the_same(tmp_path):
    """File names of other bytes come as surrogates, which UTF-8 cannot encode."""
    files.write_all({tmp_path / "page.html": "runs/\udcff"})
    assert (tmp_path / "page.html").read_bytes() == b"runs/?"


def test_checking_a_place_leaves_nothing(tmp_path):
    """Folders made for the check go again; a file in the way, and a folder where a file is to be,
    are refused.
    """
    files.check_folder(tmp_path / "a" / "b")
    files.check_file(tmp_path / "c" / "page.html")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "wall").write_text("")
    for check, place in ((files.check_folder, "wall/x"), (files.check_folder, "wall"), (files.check_file, ".")):
        with pytest.raises(CapabilityError) as caught:
            check(tmp_path / place)
        assert caught.value.slug == "cannot-write"
    assert [path.name for path in tmp_path.iterdir()] == ["wall"]


_ON_A_FULL_DISK = """
import sys
from pathlib import Path
from twlab.results import files
from twlab.errors import CapabilityError
place = Path(sys.argv[1])
two = {place / "old.json": "new" * 9000, place / "x" / "b.csv": "b" * 90000}
for work in (lambda: files.check_folder(place / "new"), lambda: files.write_all(two)):
    try:
        work()
        print("no error")
    except CapabilityError as error:
        print(error.slug, "No space left" in error.message)
print(sorted(path.name for path in place.rglob("*")), (place / "old.json").read_text())
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_keeps_what_was_there(tmp_path):
    """On 64 kB, full: a check is refused, and of two files that are written together none is
    changed or half-made.
    """
    small = tmp_path / "small"
    small.mkdir()
    script = (
        f"mount -t tmpfs -o size=64k none {small} && printf old > {small}/old.json && head -c 99999 "
        f"/dev/zero > {small}/full 2>/dev/null; "
    )
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        script + 'exec "$@"',
        "sh",
        sys.executable,
        "-c",
        _ON_A_FULL_DISK,
        str(small),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["cannot-write True", "cannot-write True", "['full', 'old.json'] old"]
