"""Imports matplotlib without the documentation that it makes of itself.

For each of its hundred classes matplotlib lists all properties, once in the signature of ``set``
and once in docstrings (matplotlib/artist.py). That is a third of the time that importing it takes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def lean_import() -> Iterator[None]:
    """Import parts of matplotlib in the block; `help` says less of them than usual.

    Drawings are the same. Nothing is different where matplotlib has been imported before.
    """
    if "matplotlib.artist" in sys.modules:
        yield
        return
    from matplotlib import artist

    silent = {
        (artist.Artist, "_update_set_signature_and_docstring"): classmethod(lambda cls: None),
        (artist, "kwdoc"): lambda shown: "",
    }
    kept = {(owner, name): vars(owner).get(name) for owner, name in silent}
    try:
        _put(silent)
        yield
    finally:
        _put(kept)


def _put(attributes: Mapping[tuple[object, str], object]) -> None:
    for (owner, name), value in attributes.items():
        setattr(owner, name, value)
