"""What `twlab observe` names in many captures of unknown truth, e.g. those of other projects' tests.

    .venv/bin/python benchmarks/captures.py FOLDER ... [--only WORD ...]

Reads every capture below the folders, each by itself. Prints a row for each with a --only word in
its name (default: those where a network copy was named), then the sums. A network copy in such a
capture is worth a look by hand: the evidence of each follows the table.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from twlab.errors import LabError  # noqa: E402
from twlab.observe.findings import Findings  # noqa: E402
from twlab.observe.late import COPY, KINDS  # noqa: E402
from twlab.observe.reading import observe  # noqa: E402

_ENDINGS = {".pcap", ".pcapng", ".cap", ".trace", ".gz"}


def row(name: str, found: Findings) -> str:
    kinds = Counter(late.kind for late in found.late)
    named = ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS if kinds[kind]) or "none"
    closed = sum(found.closes[how] for how in ("client", "server", "both", "unknown"))
    return f"| {name} | {found.counts['tcp']:,} | {found.connections:,} | {closed:,} | {named} |"


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("folders", nargs="+", type=Path)
    words.add_argument("--only", nargs="*", default=[])
    chosen = words.parse_args()
    total, evidence = Findings(title="all"), []
    files = unread = 0
    print("| capture | TCP packets | connections | closed by FIN | late |\n| --- | ---: | ---: | ---: | --- |")
    for path in sorted(each for folder in chosen.folders for each in folder.rglob("*") if each.suffix in _ENDINGS):
        try:
            found = observe([str(path)])
        except LabError:
            unread += 1
            continue
        files += 1
        total.counts.update(found.counts)
        total.closes.update(found.closes)
        total.connections += found.connections
        total.late += found.late
        copies = [late for late in found.late if late.kind == COPY]
        evidence += [f"{path} #{late.frame.number}: {late.rule}, beside #{late.against[0].number}" for late in copies]
        if copies or any(word in str(path) for word in chosen.only):
            print(row(path.name if path.stem != "input" else f"{path.parent.name}/{path.name}", found), flush=True)
    print(row(f"all {files:,} files, {unread} more unread", total), *evidence, sep="\n")


if __name__ == "__main__":
    main()
