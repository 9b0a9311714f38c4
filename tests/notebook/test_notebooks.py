"""The notebooks of docs/notebooks, executed from top to bottom as a reader would."""

import sys

import nbformat
import pytest
from conftest import ROOT
from nbclient import NotebookClient

BOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))
_CELL_S = 600  # far above what a cell takes; it ends a kernel that hangs

pytestmark = [pytest.mark.guest, pytest.mark.slow]


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    """Each cell runs, and what it shows needs nothing from another host and no script."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    book = nbformat.read(path, as_version=4)
    client = NotebookClient(book, timeout=_CELL_S, kernel_name="python3", resources={"metadata": {"path": tmp_path}})
    client.create_kernel_manager()
    client.km.kernel_cmd = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    client.execute()
    outputs = [output for cell in book.cells for output in cell.get("outputs", []) if "data" in output]
    shown = [output["data"].get("text/html", "") for output in outputs]
    assert any('class="twlab"' in html for html in shown)
    assert not any("<script" in html or "src=" in html for html in shown)


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path):
    """Outputs change with each run; the reader makes his own."""
    book = nbformat.read(path, as_version=4)
    assert [cell for cell in book.cells if cell.get("outputs") or cell.get("execution_count")] == []
