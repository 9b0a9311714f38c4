"""The house rule for prose: widths, first lines, and words that say nothing."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest
from conftest import ROOT

WIDTH, FIRST_LINE = 100, 80
PYTHON = sorted(path for folder in ("twlab", "topologies") for path in (ROOT / folder).rglob("*.py"))
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
# Words of a dialect: each has a plain one (docs/develop/architecture.md, CONTRIBUTING.md).
AVOIDED = re.compile(
    r"(?<!`)\b(?:(?i:nobody|somebody|anybody|whoever|whatever|befall\w*)|is none|put into force|wanted again)\b(?!-)"
)


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def comments(path: Path) -> list[tokenize.TokenInfo]:
    """The comments that have a line to themselves."""
    tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
    return [token for token in tokens if token.type == tokenize.COMMENT and token.line.strip().startswith("#")]


def docstrings(path: Path) -> list[tuple[ast.AST, str]]:
    """The docstrings of a module, its classes and functions, with what each belongs to."""
    tree = ast.parse(path.read_text())
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, kinds)]
    return [(node, text) for node in nodes if (text := ast.get_docstring(node))]


@pytest.mark.parametrize("path", PYTHON, ids=ids)
def test_docstrings_and_comments_are_readable(path):
    """At most 100 columns; the first line of a module's or a public name's docstring has at most 80."""
    lines = path.read_text().splitlines()
    numbers = [token.start[0] for token in comments(path) if "noqa" not in token.string]
    assert [number for number in numbers if len(lines[number - 1]) > WIDTH] == []
    for node, text in docstrings(path):
        name = getattr(node, "name", "the module")
        prose = [line for line in text.splitlines() if not line.startswith("    ") and "|" not in line]
        assert [line for line in prose if len(line) > WIDTH] == [], name
        # A scenario's first paragraph is its claim, a verb's is its usage: both are data.
        claim = path.parent.name == "scenarios" and isinstance(node, ast.FunctionDef)
        if not claim and not name.startswith(("_", "do_")):
            first = text.splitlines()[0]
            assert len(first) <= FIRST_LINE, f"{name}: {first}"


@pytest.mark.parametrize("path", PAGES, ids=ids)
def test_paragraphs_of_pages_are_readable(path):
    """At most 100 columns, tables and what is shown of a terminal apart."""
    fenced = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fenced ^= line.lstrip().startswith("```")
        if not fenced and not line.startswith(("    ", "|", "#", "<", "![")) and "](" not in line:
            assert len(line) <= WIDTH, f"line {number}"


@pytest.mark.parametrize("path", [*PYTHON, *PAGES], ids=ids)
def test_plain_words(path):
    """Who does something is named."""
    if path.name == "decisions.md":
        return  # entries stand as they were written
    found = [
        f"{number}: {line.strip()}"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if AVOIDED.search(line)
    ]
    assert found == []


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=ids)
def test_plain_words_in_tests(path: Path) -> None:
    """In docstrings and comments; ``nobody`` between backticks is a user."""
    texts = [*(text for _, text in docstrings(path)), *(token.string for token in comments(path))]
    assert [text for text in texts if AVOIDED.search(text)] == []
