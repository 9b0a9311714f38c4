"""The pages as a site: it builds, every link in it leads somewhere, and nothing comes from another
host.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built. A dead link, a missing anchor or a page outside the menu is a failure."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_page_is_in_it(site):
    """Each Markdown file under docs has its page."""
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    pages = [path for path in pages if path.parts[0] != "examples" and "solutions" not in path.parts]
    assert len(pages) > 20
    for path in pages:
        name = path.with_name("index.html") if path.name == "README.md" else path.with_suffix(".html")
        assert (site / name).is_file(), name


def test_nothing_is_fetched_from_another_host(site):
    """Scripts, styles, fonts and images lie beside the pages."""
    fetched = re.compile(
        r"<(?:script|img|iframe|source)[^>]*\ssrc=\"(?:https?:)?//|<link[^>]*rel=\"(?:stylesheet|preload|icon)\"[^>]*href=\"https?://"
    )
    for page in site.rglob("*.html"):
        assert not fetched.search(page.read_text()), page.name


def test_a_dead_link_is_found(tmp_path):
    """The check can fail. (With --quiet it cannot: MkDocs 1.6 counts only the warnings that it
    prints.)
    """
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# A page\n\n[dead](nowhere.md)\n")
    (tmp_path / "mkdocs.yml").write_text("site_name: x\nvalidation: {links: {not_found: warn}}\n")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 1
    assert "nowhere.md" in done.stdout + done.stderr
