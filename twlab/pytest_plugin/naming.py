"""Names of labs and files, from names of tests."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pytest

NUMBERS: pytest.StashKey[dict[str, int]] = pytest.StashKey()  # of all tests of a session, see `numbers`


def word(text: str) -> str:
    """Return `text` as one word.

    All but letters, digits, ``_`` and ``.`` becomes single hyphens.
    """
    return re.sub(r"[^\w.]+", "-", text).strip("-")


def parts(nodeid: str) -> tuple[str, str]:
    """Return a test's name and its parameters, each as one word; no parameters: empty."""
    test, _, parameters = nodeid.partition("[")
    return word(test.replace("/", "-")), word(parameters.removesuffix("]"))


def numbers(nodeids: Iterable[str]) -> dict[str, int]:
    """Return, for each test, its number among those of the same `parts`, from 1.

    It depends on the node ids alone, so that all workers of pytest-xdist agree.
    """
    count: dict[tuple[str, str], int] = {}
    found = {}
    for nodeid in sorted(set(nodeids)):
        found[nodeid] = count[parts(nodeid)] = count.get(parts(nodeid), 0) + 1
    return found
