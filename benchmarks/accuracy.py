"""Precision and recall of `twlab observe` over fresh captures whose truth is known, as a table.

    .venv/bin/python benchmarks/accuracy.py [--seed N] [--seeds COUNT] [--tuples N]

Kinds of capture: see `KINDS` in tests/support/planted.py. A planted packet counts as found if it is
named in its class; a packet that is named and was not planted, or in another class, counts against
precision. Without --seed the captures are new ones each time.
"""

from __future__ import annotations

import argparse
import dataclasses
import secrets
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from planted import KINDS, Plan, pcap  # noqa: E402

from twlab.observe.reading import observe  # noqa: E402


def counted(plan: Plan, path: Path) -> tuple[int, int, int, int]:
    """Frames; packets planted; named; named rightly."""
    with path.open("wb") as file:
        capture = pcap(plan, file.write)
    truth = {(number, kind) for number, kind, _ in capture.planted if kind != "duplicate"}
    named = {(late.frame.number, late.kind) for late in observe([str(path)]).late}
    return capture.frames, len(truth), len(named), len(truth & named)


def main() -> None:
    words = argparse.ArgumentParser()
    words.add_argument("--seed", type=int, default=secrets.randbelow(1 << 30))
    words.add_argument("--seeds", type=int, default=5)
    words.add_argument("--tuples", type=int, default=1000)
    chosen = words.parse_args()
    print(f"seeds {chosen.seed} to {chosen.seed + chosen.seeds - 1}, {chosen.tuples} four-tuples each\n")
    print("| capture | frames | planted | found | named wrongly | precision | recall |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    perfect = True
    with tempfile.TemporaryDirectory() as folder:
        for name, plan in KINDS.items():
            total = [0, 0, 0, 0]
            for seed in range(chosen.seed, chosen.seed + chosen.seeds):
                fresh = dataclasses.replace(plan, seed=seed, tuples=chosen.tuples)
                total = [one + other for one, other in zip(total, counted(fresh, Path(folder) / "x"), strict=True)]
            frames, planted, named, right = total
            perfect &= planted == named == right
            shares = f"{right / max(1, named):.4f} | {right / max(1, planted):.4f}"
            print(f"| {name} | {frames:,} | {planted:,} | {right:,} | {named - right:,} | {shares} |", flush=True)
    sys.exit(not perfect)


if __name__ == "__main__":
    main()
