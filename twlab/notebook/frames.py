"""Makes tables: pandas DataFrames, or lists of dicts where there is no pandas."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> Any:
    """Return `rows` as a DataFrame, or as a list of dicts without pandas.

    Args:
        rows: column to value.
        columns: of the DataFrame; empty: those of the rows. They matter where there are no rows.
    """
    if importlib.util.find_spec("pandas") is None:
        return [dict(row) for row in rows]
    import pandas

    return pandas.DataFrame([dict(row) for row in rows], columns=list(columns) or None)
