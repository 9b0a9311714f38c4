"""What a part of the catalogue costs: all scenarios beside all but those, runs interleaved.

    .venv/bin/python benchmarks/catalogue.py [ROUNDS [SCENARIO ...]]

Without scenarios it is the part on what stands between a proxy and its origin: `BETWEEN`. Told are
processor and wall seconds, medians, and the median of the rounds' ratios. It takes root, as
`benchmarks/speed.py` does, whose way of measuring it is.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from speed import GROUP, spent

from twlab.catalogue import load_scenarios

BETWEEN = (
    *("ipvs-port-reuse", "ipvs-half-dead", "ipvs-direct-routing", "ipvs-unequal-load", "ipvs-vip-and-endpoint"),
    *("dnat-old-backend", "dnat-port-rewrite", "dnat-late-segment", "dnat-early-demux", "two-balancers"),
    *("snat-full-range", "snat-eviction", "snat-pool", "nat-rest", "flowtable-reset", "flowtable-early-release"),
    *("sidecar-loopback", "sidecar-redirect", "sidecar-tproxy", "lost-reset", "half-closed-nat"),
    *("device-reboot", "stale-data-lwip", "syn-into-lwip", "gvisor-behind-nat", "rootless-gateway"),
)


def main(rounds: int, part: tuple[str, ...]) -> None:
    """Measure and print."""
    tree = Path(__file__).resolve().parent.parent
    whole = sorted(load_scenarios())
    sides = [[name for name in whole if name not in part], whole]
    GROUP.mkdir(exist_ok=True)
    try:
        pairs = [
            [spent(tree, ["run", *names, "--no-report", "--out", "{out}"], "") for names in sides]
            for _ in range(rounds)
        ]
    finally:
        GROUP.rmdir()
    print(f"{len(sides[0])} scenarios without, {len(whole)} with them")
    for at, what in enumerate(("processor", "wall")):
        without, with_them = ([each[at] for each in side] for side in zip(*pairs, strict=True))
        ratio = statistics.median(more / less for less, more in zip(without, with_them, strict=True))
        print(f"{what:9} {statistics.median(without):8.2f} s {statistics.median(with_them):8.2f} s {ratio:6.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 2, tuple(sys.argv[2:]) or BETWEEN)
