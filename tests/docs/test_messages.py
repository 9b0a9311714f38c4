"""Every failure that twlab names in brackets is explained in docs/reference/messages.md, and
nothing else is.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from conftest import ROOT

from twlab import errors

SLUG = re.compile(r"[a-z0-9]+(-[a-z0-9]+)+")
PAGE = ROOT / "docs" / "reference" / "messages.md"


def constants(node: ast.AST | None) -> Iterator[str]:
    """The slugs that stand in an expression: itself, or the branches of a conditional."""
    if isinstance(node, ast.IfExp):
        yield from constants(node.body)
        yield from constants(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and SLUG.fullmatch(node.value):
        yield node.value


def slugs_in(path: Path) -> Iterator[str]:
    """The slugs that a module uses: arguments of errors and faults, values of ``slug``, and the
    brackets of the last resort.
    """
    text = path.read_text()
    yield from re.findall(r"\[([a-z]+-error)\]", text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call):
            if re.search(r"(Error|Fault)$", ast.unparse(node.func)):
                for argument in node.args:
                    yield from constants(argument)
            for keyword in node.keywords:
                if keyword.arg == "slug":
                    yield from constants(keyword.value)
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "slug":
                    yield from constants(value)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).endswith("slug"):
            yield from constants(node.value)


@cache
def used() -> set[str]:
    return {slug for path in (ROOT / "twlab").rglob("*.py") if "scenarios" not in path.parts for slug in slugs_in(path)}


def explained() -> list[str]:
    return re.findall(r"^### (\S+)$", PAGE.read_text(), re.MULTILINE)


def test_every_slug_has_its_heading() -> None:
    """A user who looks up the word in brackets finds it."""
    assert used() - set(explained()) == set()


def test_no_heading_explains_what_cannot_happen() -> None:
    """A heading whose slug is gone from the code goes too."""
    assert set(explained()) - used() == set()


def test_headings_are_sorted_and_unique_in_each_part() -> None:
    """Within a part of the page a slug is found by its place in the alphabet."""
    for part in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE):
        found = re.findall(r"^### (\S+)$", part, re.MULTILINE)
        assert found == sorted(set(found))


def test_every_heading_is_followed_by_an_explanation() -> None:
    """There is a sentence under each heading."""
    for body in re.split(r"^### \S+$", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        assert body.strip() and not body.strip().startswith("#")


def sections() -> dict[str, int]:
    """The exit status of the part of the page that explains a slug."""
    parts = re.split(r"^## .*\(exit status (\d)\)$", PAGE.read_text(), flags=re.MULTILINE)
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return {slug: int(status) for status, part in pairs for slug in re.findall(r"^### (\S+)$", part, re.MULTILINE)}


def statuses() -> dict[str, set[int]]:
    """The exit statuses with which each slug is raised by name of an error's class."""
    found: dict[str, set[int]] = {}
    for path in (ROOT / "twlab").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and (kind := getattr(errors, ast.unparse(node.func), None)):
                for argument in (*node.args, *(keyword.value for keyword in node.keywords if keyword.arg == "slug")):
                    for slug in constants(argument):
                        found.setdefault(slug, set()).add(kind.exit_status)
    return found


def test_a_slug_stands_in_the_part_of_its_exit_status() -> None:
    """A part of the page says what the command's exit status is."""
    explained_in = sections()
    assert {slug: of for slug, of in statuses().items() if explained_in[slug] not in of} == {}
