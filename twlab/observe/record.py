"""Writes findings as JSON and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from twlab.observe.findings import Findings, Late
from twlab.observe.publish import aggregate
from twlab.observe.text import notes, pairs, summary

SCHEMA = 1
_COLUMNS = (
    "capture",
    "file",
    "frame",
    "kind",
    "source",
    "source_port",
    "destination",
    "destination_port",
    "segment",
    "late_s",
    "age_s",
    "met",
    "harmed",
    "why",
    "in_window",
    "contents",
    "rule",
    "against",
)


def as_dict(found: Sequence[Findings], command: str) -> dict[str, Any]:
    """Return all findings as one JSON object, which docs/guides/observe.md describes.

    ``rows`` is the table that a report shows.
    """
    rows = []
    for one in found:
        for length_s, row in sorted(one.table.items(), reverse=True):
            rows.append(
                {
                    "capture": one.title,
                    "time_wait_s": length_s,
                    "exposed": row.exposed,
                    "met": row.met,
                    "harmed": row.harmed,
                    "in_window": row.in_window,
                    "refused": row.refused,
                    "watched": row.watched,
                }
            )
    return {
        "schema": SCHEMA,
        "kind": "observe",
        "command": command,
        "rows": rows,
        "observations": [_one(one) for one in found],
    }


def _one(found: Findings) -> dict[str, Any]:
    figures = aggregate(found)
    return {
        "title": found.title,
        "files": [{"file": name, "frames": frames} for name, frames in found.files],
        "faults": found.faults,
        "interfaces": [{"name": interface.name, "link": interface.link} for interface in found.interfaces],
        "begin_s": found.begin_ns / 1e9,
        "end_s": found.end_ns / 1e9,
        "not_read": {
            "cut": found.counts["cut"],
            "malformed": found.counts["malformed"],
            "fragments": found.counts["fragment"],
            "bad_times": found.bad_times,
            "links": {str(link): count for link, count in sorted(found.links.items())},
        },
        "clock_ran_back_s": found.back_s,
        "forgotten": found.forgotten,
        "split_by_network": found.split,
        "pairs": [
            {
                "client": client,
                "server": server,
                "port": port,
                "reuses": int(count),
                "tw_reuse": int(signed),
                "soonest_s": least,
            }
            for (client, server, port), (count, signed, least) in sorted(
                found.reuse.pairs.items(), key=lambda item: -item[1][0]
            )
        ],
        "figures": figures,
        "late": [late_as_dict(late) for late in found.late],
        "unlisted": found.unlisted,
        "lines": [*notes(found), *summary(figures), "", *pairs(found, 10)],
    }


def late_as_dict(late: Late) -> dict[str, Any]:
    """Return one late packet with its evidence, as JSON values."""
    source, sport, destination, dport = late.flow
    return {
        "kind": late.kind,
        "rule": late.rule,
        "file": late.frame.file,
        "frame": late.frame.number,
        "against": [{"file": frame.file, "frame": frame.number} for frame in late.against],
        "source": source,
        "source_port": sport,
        "destination": destination,
        "destination_port": dport,
        "segment": late.what,
        "late_s": late.late_s,
        "age_s": late.age_s,
        "met": late.met,
        "harmed": late.harmed,
        "why": late.why,
        "in_window": late.in_window,
        "contents": late.contents,
    }


def as_csv(found: Sequence[Findings]) -> str:
    """Return the late packets as CSV, a line for each."""
    file = io.StringIO()
    writer = csv.DictWriter(file, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    for one in found:
        for late in one.late:
            values = late_as_dict(late)
            values["against"] = " ".join(str(frame["frame"]) for frame in values["against"])
            values["in_window"] = "" if late.in_window is None else " ".join(f"{length:g}" for length in late.in_window)
            writer.writerow({"capture": one.title, **values})
    return file.getvalue()
