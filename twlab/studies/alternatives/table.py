"""The ways out of port exhaustion, side by side: the rows of the table.

A row says what the way sustains, and which scenarios of the catalogue do harm under it. It comes
from two kinds of runs, all in lab kernels:

- An arm of the scenario in `twlab.studies.alternatives.scenario` for each way: the highest rate at
  which no connect fails.
- The first treatment of every scenario in `twlab.studies.alternatives.harm`. It runs with the
  settings of the way on every node, instead of those of the treatment, with timestamps and without.

A change of the application (more addresses, a pool, named ports) leaves the settings as they are,
so its harm is that of the full TIME_WAIT. SO_LINGER 0 leaves no TIME_WAIT, as a full table does,
and has a scenario for itself.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twlab.planner.ways import MEASURED as MEASURED_WAYS
from twlab.scenario import Scenario
from twlab.studies.alternatives import scenario as sustained
from twlab.studies.alternatives.harm import HARM

SCHEMA = 1
MEASURED: Scenario = sustained.sustained
FEW_PORTS = (sustained.LOW, sustained.HIGH)
DELAYS_S = (2, 12, 40)  # ages of the old segment in the scenario stale-segment
_PLAIN = {"time_wait_s": "60", "tw_reuse": "0", "tw_recycle": "0", "max_tw_buckets": "262144"}
# Settings under which the catalogue is run; ways that change nothing of the kind are judged by the
# first.
UNDER: Mapping[str, Mapping[str, str]] = {
    "full": {},
    **{f"time-wait-{s}": {"time_wait_s": str(s)} for s in (30, 15, 10, 1)},
    "tw-reuse": {"tw_reuse": "1"},
    "tw-recycle": {"tw_recycle": "1"},
    "no-time-wait": {
        "time_wait_s": "0.1"
    },  # the scenarios' steps look for a TIME_WAIT; this one is over before anything comes late
}
_OWN = {
    "linger-truncation": "linger-0",
    "overflow": "tw-buckets",
}  # scenarios that show one way, and are run for it alone
_NEEDS_TIMESTAMPS = ("tw-reuse", "tw-recycle")


@dataclass(frozen=True)
class Alternative:
    """One row of the table.

    Attributes:
        arm: of the scenario `sustained`; the row's name.
        under: the settings, in `UNDER`, whose harm is its own.
        timestamps: whether both ends use them.
    """

    arm: str
    under: str = "full"
    timestamps: bool = True

    @property
    def what(self) -> str:
        """What is done."""
        return MEASURED_WAYS[self.arm].change

    @property
    def where(self) -> str:
        """Where it has to be done."""
        return MEASURED_WAYS[self.arm].where


# Settings of the rows that change the kernel's; all others are judged under the full TIME_WAIT.
_UNDER: Mapping[str, str] = {
    **{name: name for name in UNDER},
    **{f"tw-reuse-{how}": "tw-reuse" for how in ("bind-first", "bind-no-port", "named-ports", "delay-100-ms")},
    "tw-buckets": "no-time-wait",
    "linger-0": "no-time-wait",
}
ALTERNATIVES: tuple[Alternative, ...] = tuple(
    Alternative(name, _UNDER.get(name, "full"), not name.endswith("no-timestamps")) for name in MEASURED_WAYS
)


@dataclass(frozen=True)
class ArmRun:
    """One arm to be run.

    Attributes:
        scenario, arm: of it.
        sets: ``KEY=VALUE`` over its settings.
        under: key of `UNDER`, and whether with timestamps; None for a measurement of `sustained`.
        label: what a harm done is called in the table.
    """

    scenario: str
    arm: str
    sets: tuple[str, ...] = ()
    under: tuple[str, bool] | None = None
    label: str = ""


def runs(
    catalogue: Mapping[str, Scenario],
    wanted: Sequence[Alternative],
    judged: bool = True,
    ports: tuple[int, int] = FEW_PORTS,
) -> list[ArmRun]:
    """Return all runs that the rows `wanted` need, the measurements first.

    Args:
        judged: with the catalogue's scenarios, not only the measurements.
        ports: the first and the last, of the measurements.
    """
    made = [ArmRun(MEASURED.name, row.arm, sustained.with_ports(row.arm, *ports)) for row in wanted]
    if not judged:
        return made
    for under, timestamps in sorted({("full", alternative.timestamps) for alternative in wanted} | _judging(wanted)):
        settings = _PLAIN | dict(UNDER[under]) | {"timestamps": str(int(timestamps))}
        for name in HARM:
            if name not in catalogue or (name in _OWN and under != "no-time-wait"):
                continue
            own_clock = timestamps and catalogue[name].base.timestamps == 2
            sets = tuple(f"{key}={value}" for key, value in settings.items() if not (own_clock and key == "timestamps"))
            first = next(arm for arm, role in catalogue[name].roles.items() if role == "treatment")
            full_table = ("max_tw_buckets=0",) if name == "overflow" else ()
            if name == "stale-segment":
                made += [
                    ArmRun(name, first, (*sets, f"delay_s={delay_s}"), (under, timestamps), f"{name} ({delay_s} s)")
                    for delay_s in DELAYS_S
                ]
            else:
                made.append(ArmRun(name, first, (*sets, *full_table), (under, timestamps), name))
    return made


def _judging(wanted: Sequence[Alternative]) -> set[tuple[str, bool]]:
    """With timestamps and without, unless the way is nothing without them."""
    return {
        (alternative.under, timestamps)
        for alternative in wanted
        for timestamps in (True, False)
        if timestamps or alternative.under not in _NEEDS_TIMESTAMPS
    }


def table(done: Sequence[tuple[ArmRun, Mapping[str, Any]]], wanted: Sequence[Alternative]) -> list[dict[str, Any]]:
    """Return the rows, as JSON values.

    Args:
        done: runs with their results (``observed``, ``error``).

    Returns:
        For each alternative: name, what, where; sustained_per_s with the lab's few ports, limited
        (false: it could have been more), and of 28,232 ports; fails (call and error past it),
        in_time_wait (the most), bytes_each (kernel memory for each of them; 0: not known);
        as_planned; does_harm and does_harm_without_timestamps (names of scenarios; null where they
        were not run), and judged and not_judged, the number of runs behind them; kernel, on which
        it was measured; error, where it could not be measured. null: not known.
    """
    measured = {run.arm: result for run, result in done if run.under is None}
    harmed: dict[tuple[str, bool], list[str]] = {}
    judged: dict[tuple[str, bool], list[bool]] = {}
    for run, result in done:
        if run.under is None:
            continue
        observed = result.get("observed")
        judged.setdefault(run.under, []).append(bool(observed))
        found = harmed.setdefault(run.under, [])
        if observed and HARM[run.scenario].done(observed) and run.label not in found:
            found.append(run.label)
    order = {name: number for number, name in enumerate(_labels())}
    for found in harmed.values():
        found.sort(key=order.__getitem__)
    return [_row(alternative, measured.get(alternative.arm, {}), harmed, judged) for alternative in wanted]


def _labels() -> list[str]:
    """Return what harm is called in the table, in the order of `HARM`."""
    return [
        label
        for name in HARM
        for label in ([f"{name} ({s} s)" for s in DELAYS_S] if name == "stale-segment" else [name])
    ]


def _row(
    alternative: Alternative,
    result: Mapping[str, Any],
    harmed: Mapping[tuple[str, bool], list[str]],
    judged: Mapping[tuple[str, bool], list[bool]],
) -> dict[str, Any]:
    observed = result.get("observed") or {}
    with_stamps, without = (alternative.under, True), (alternative.under, False)
    runs = [*judged.get(with_stamps, []), *judged.get(without, [])]

    def names(key: tuple[str, bool]) -> list[str] | None:
        return (
            [name for name in harmed[key] if _OWN.get(name, alternative.arm) == alternative.arm]
            if key in harmed
            else None
        )

    return {
        "name": alternative.arm,
        "what": alternative.what,
        "where": alternative.where,
        "sustained_per_s": observed.get("sustained_per_s"),
        "limited": observed.get("limited"),
        "of_28232_ports_per_s": observed.get("of_28232_ports_per_s"),
        "fails": observed.get("fails"),
        "in_time_wait": observed.get("in_time_wait"),
        "bytes_each": observed.get("bytes_each"),
        "as_planned": result.get("ok"),
        "does_harm": names(with_stamps) if alternative.timestamps else None,
        "does_harm_without_timestamps": names(without),
        "judged": sum(runs),
        "not_judged": len(runs) - sum(runs),
        "kernel": result.get("kernel"),
        "error": (result.get("error") or {}).get("message"),
    }


def summary(
    done: Sequence[tuple[ArmRun, Mapping[str, Any]]], wanted: Sequence[Alternative], **about: Any
) -> dict[str, Any]:
    """Return what ``alternatives.json`` holds.

    That is the schema, `about`, the kernel, how many runs judged and how many could not, and the
    rows of
    `table`.
    """
    judged = [bool(result.get("observed")) for run, result in done if run.under]
    kernels = Counter(str(result["kernel"]) for _, result in done if result.get("kernel"))
    kernel = kernels.most_common(1)[0][0] if kernels else ""
    counts = {"judged": sum(judged), "not_judged": len(judged) - sum(judged)}
    return {"schema": SCHEMA, **about, "kernel": kernel, **counts, "rows": table(done, wanted)}


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as CSV, lists joined by semicolons."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "; ".join(value) if isinstance(value, list) else value for key, value in row.items()})
    return text.getvalue()
