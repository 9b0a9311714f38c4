"""Deals tests to the workers of pytest-xdist: what shares a fixture goes to one of them, and first.

Its own ``--dist loadgroup`` writes the group into the test's id, which pytest 9.2 ignores without a
word (pytest-xdist issue 1386): each worker ran the whole catalogue.
"""

from __future__ import annotations

from functools import cache

from conftest import ROOT
from xdist.scheduler import LoadScopeScheduling

CATALOGUE = "the catalogue"


class Dealing(LoadScopeScheduling):
    """Deals tests one by one, after the groups, of which the largest is first."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid.partition("::")[0]) or nodeid


@cache
def group(file: str) -> str:
    """Return the group of a test file, as its text says: that of the one run of the whole
    catalogue, or the file's own where it has fixtures for the module; empty: none.
    """
    text = (ROOT / file).read_text()
    if "in_the_guest" in text:
        return CATALOGUE
    return file if 'scope="module"' in text else ""
