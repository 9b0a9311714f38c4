"""Reads HAProxy's `show stat`: CSV below a line that begins ``# pxname``."""

from __future__ import annotations

import csv
from collections.abc import Iterable

from twlab.diagnose.texts.gathered import Gathered


def parse(lines: Iterable[str], into: Gathered, _heading: str = "") -> None:
    """Add the rows of servers and backends."""
    names: list[str] = []
    for line in lines:
        if line.startswith("# "):
            names = line[2:].strip().rstrip(",").split(",")
        elif names and line.strip():
            try:
                cells = next(csv.reader([line.rstrip()]))
            except (csv.Error, StopIteration):
                into.unread["haproxy"] += 1
                continue
            row = dict(zip(names, cells, strict=False))
            if row.get("svname", "FRONTEND") != "FRONTEND":
                into.haproxy.append(row)
