"""The atlas as a table: a row for each program, and the files that it is kept in."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twlab.atlas import versions, words
from twlab.atlas.columns import COLUMNS, Column
from twlab.atlas.page import page
from twlab.atlas.programs import missing
from twlab.atlas.subject import Subject
from twlab.engines import pool
from twlab.errors import UsageError, did_you_mean
from twlab.results import files

SCHEMA = 1
DRIVER = "twlab.atlas.driver"
Row = dict[str, Any]
OnCell = Callable[[str, str, str], None]


def chosen_columns(names: Sequence[str]) -> list[Column]:
    """Return the columns called `names`; all, without names.

    Raises:
        UsageError: there is no such column (``no-such-column``).
    """
    known = {column.name: column for column in COLUMNS}
    if unknown := [name for name in names if name not in known]:
        message = f"the atlas has no column called {unknown[0]!r}{did_you_mean(unknown[0], known)}"
        raise UsageError(message, f"its columns are: {', '.join(known)}", "no-such-column")
    return [column for column in COLUMNS if not names or column.name in names]


def measure(
    subjects: Sequence[Subject], columns: Sequence[Column], *, engine: str, seed: int, jobs: int, on_cell: OnCell
) -> tuple[list[Row], dict[str, str]]:
    """Measure `columns` of `subjects`; return rows, and ``kernel`` and ``engine``.

    A row has the text of each cell under the column's name; ``facts`` and ``commands`` by column;
    ``error``, empty if all went well. The columns of a program that is not installed are empty.

    Args:
        jobs: boots side by side.
        on_cell: called with program, column and text, as they come.
    """
    rows = [_row(subject, columns) for subject in subjects]
    there = [number for number, row in enumerate(rows) if row["installed"]]
    wanted = [column.name for column in columns]
    tasks = [{"subject": subjects[n].name, "columns": wanted, "engine": engine, "seed": seed} for n in there]
    about = {"kernel": "", "engine": engine}
    for index, answer in pool.answers(DRIVER, tasks, jobs):
        row = rows[there[index]]
        if isinstance(answer, pool.Ended):
            row["error"] = row["error"] or (answer.error or {}).get("message", "")
            continue
        column = answer["column"]
        about |= {"kernel": answer["kernel"], "engine": answer["engine"]}
        if "facts" in answer:
            row["facts"][column] = answer["facts"]
            row[column] = words.cell(column, answer["facts"])
        else:
            row[column] = "could not be measured"
            row["error"] = row["error"] or f"{column}: {answer['error']['message']}"
        on_cell(row["name"], column, row[column])
    return rows, about


def _row(subject: Subject, columns: Sequence[Column]) -> Row:
    lack = missing(subject)
    applying = [column.name for column in columns if column.applies(subject)]
    return {
        "name": subject.name,
        "role": "client" if subject.is_client else "proxy",
        "version": "" if lack else versions.version(subject),
        "package": subject.package,
        "installed": lack is None,
        **dict.fromkeys((column.name for column in columns), ""),
        "facts": {},
        "commands": {name: f"twlab atlas {subject.name} --only {name}" for name in applying},
        "alone": f"twlab atlas {subject.name} --only COLUMN",
        "error": f"{lack.message}: {lack.remedy}" if lack else "",
    }


def write(folder: Path, rows: Sequence[Row], columns: Sequence[Column], **about: Any) -> list[Path]:
    """Write ``atlas.json``, ``.csv`` and ``.md``; return their paths.

    Raises:
        CapabilityError: they cannot be written (``cannot-write``).
    """
    made = {"schema": SCHEMA, "kind": "atlas", **about, "rows": list(rows)}
    texts = {
        "json": json.dumps(made, indent=1) + "\n",
        "csv": as_csv(rows, columns),
        "md": page(made),
    }
    paths = {folder / f"atlas.{suffix}": text for suffix, text in texts.items()}
    files.write_all(paths)
    return list(paths)


def as_csv(rows: Sequence[Row], columns: Sequence[Column]) -> str:
    """Return the table as CSV, a line for each program."""
    names = ["name", "role", "version", "package", *(column.name for column in columns), "alone", "error"]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """List the cells in which two tables differ, as ``nginx-one short: A, B``."""
    others = {row["name"]: row for row in other["rows"]}
    names = [column.name for column in COLUMNS]
    return [
        f"{row['name']} {name}: {row.get(name)}, {others[row['name']].get(name)}"
        for row in one["rows"]
        if row["name"] in others
        for name in names
        if row.get(name) != others[row["name"]].get(name)
    ]
