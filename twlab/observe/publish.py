"""Turns findings into aggregate figures that hold no address and no time of day.

Reads such aggregates back, and adds up many. docs/guides/observe.md describes the format; `SCHEMA`
counts its versions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from twlab.errors import UsageError
from twlab.observe.distribution import Distribution
from twlab.observe.findings import Findings
from twlab.observe.late import KINDS

SCHEMA = 1
KIND = "observe-aggregate"
_COUNTS = ("captures", "frames", "packets", "duplicates", "clock_ran_back", "connections", "opened", "open", "one_way")
_CLOSES = ("client", "server", "both", "unknown", "reset")
_ROW = ("exposed", "met", "harmed", "in_window", "refused", "watched")
_LARGEST = 1 << 60


def aggregate(found: Findings) -> dict[str, Any]:
    """Return the aggregate figures of one capture."""
    return {
        "schema": SCHEMA,
        "kind": KIND,
        "captures": 1,
        "watched_s": round(found.watched_s, 6),
        "frames": found.frames,
        "packets": found.counts["tcp"],
        "duplicates": found.duplicates,
        "clock_ran_back": found.back,
        "remembered_s": round(found.remembered_s, 3),
        "connections": found.connections,
        "opened": found.opened,
        "open": found.open,
        "one_way": found.one_way,
        "closes": {name: found.closes[name] for name in _CLOSES},
        "late": {
            name: {
                "lateness_s": kind.lateness.as_dict(),
                "age_s": kind.age.as_dict(),
                "before_close": kind.before_close,
                "undated": kind.undated,
            }
            for name, kind in found.kinds.items()
        },
        "reuse": {
            "gap_s": found.reuse.gaps.as_dict(),
            "tw_reuse_gap_s": found.reuse.signed.as_dict(),
            "after_reset": found.reuse.after_reset,
        },
        "time_wait": {
            f"{length_s:g}": {name: getattr(row, name) for name in _ROW}
            for length_s, row in sorted(found.table.items(), reverse=True)
        },
    }


def merge(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Add up aggregates that `read` has checked.

    A length of TIME_WAIT that only some of them have keeps its own counts.
    """
    total = aggregate(Findings())
    total.update(captures=0, remembered_s=None, time_wait={})
    for part in parts:
        for name in _COUNTS:
            total[name] += part[name]
        total["watched_s"] = round(total["watched_s"] + part["watched_s"], 6)
        known = [value for value in (total["remembered_s"], part["remembered_s"]) if value is not None]
        total["remembered_s"] = min(known) if known else None
        for name in _CLOSES:
            total["closes"][name] += part["closes"][name]
        for name in KINDS:
            mine, other = total["late"][name], part["late"][name]
            for of in ("lateness_s", "age_s"):
                mine[of] = _sum(mine[of], other[of])
            for of in ("before_close", "undated"):
                mine[of] += other[of]
        for of in ("gap_s", "tw_reuse_gap_s"):
            total["reuse"][of] = _sum(total["reuse"][of], part["reuse"][of])
        total["reuse"]["after_reset"] += part["reuse"]["after_reset"]
        for length, row in part["time_wait"].items():
            mine = total["time_wait"].setdefault(length, dict.fromkeys(_ROW, 0))
            for name in _ROW:
                mine[name] += row[name]
    total["time_wait"] = dict(sorted(total["time_wait"].items(), key=lambda item: -float(item[0])))
    return total


def _sum(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    made = Distribution.from_dict(one)
    made.merge(Distribution.from_dict(other))
    return made.as_dict()


def read(path: Path) -> dict[str, Any]:
    """Read the aggregate in the file `path`, and check it.

    Raises:
        UsageError: there is no such file (``no-aggregate``), it is no aggregate or damaged
            (``broken-aggregate``), or a newer twlab wrote it (``newer-result``).
    """
    remedy = "name files that twlab observe --publish has written"
    try:
        values = json.loads(path.read_text())
    except OSError as fault:
        raise UsageError(f"there is no file at {path}: {fault.strerror}", remedy, "no-aggregate") from fault
    except (ValueError, RecursionError) as fault:
        raise UsageError(f"{path} is no JSON: {fault}", remedy, "broken-aggregate") from fault
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise UsageError(f"{path} holds no aggregate of twlab observe", remedy, "broken-aggregate")
    if isinstance(values.get("schema"), int) and values["schema"] > SCHEMA:
        message = f"{path} has schema {values['schema']}; this twlab reads up to {SCHEMA}"
        raise UsageError(message, "read it with a newer twlab", "newer-result")
    try:
        _check(values)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as fault:
        raise UsageError(
            f"{path} lacks what an aggregate has: {type(fault).__name__}: {fault}", remedy, "broken-aggregate"
        ) from fault
    return values


def _check(values: dict[str, Any]) -> None:
    counts = (
        [values[name] for name in _COUNTS]
        + [values["closes"][name] for name in _CLOSES]
        + [values["reuse"]["after_reset"]]
    )
    for name in KINDS:
        kind = values["late"][name]
        counts += [kind["before_close"], kind["undated"]]
        Distribution.from_dict(kind["lateness_s"])
        Distribution.from_dict(kind["age_s"])
    for of in ("gap_s", "tw_reuse_gap_s"):
        Distribution.from_dict(values["reuse"][of])
    for length, row in values["time_wait"].items():
        if not 0 <= float(length) < 1e6:
            raise ValueError(f"a TIME_WAIT of {length} s")
        counts += [row[name] for name in _ROW]
    for count in counts:
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < _LARGEST:
            raise ValueError(f"{count!r} is no count")
    for name in ("watched_s", "remembered_s"):
        value = 0.0 if values[name] is None else values[name]
        if not isinstance(value, int | float) or not 0 <= value < _LARGEST:
            raise ValueError(f"{name} is {value!r}")
