"""The table of alternatives in words, and as a page.

The page is docs/findings/alternatives.md.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from twlab.ports import LINUX_PORT_COUNT, LINUX_SUSTAINS_PER_S
from twlab.studies.alternatives.harm import HARM
from twlab.studies.alternatives.scenario import NEAR, PORTS
from twlab.studies.alternatives.table import DELAYS_S

_PAGE = """# The ways out, side by side

    {command}

made this page, [alternatives.json](alternatives.json) and [alternatives.csv](alternatives.csv), on
the lab kernel (Linux {kernel}). Every rate in the table is measured. `twlab alternatives NAME ...`
measures single rows again; `twlab plan` has the arithmetic for numbers of your own.

**Sustained**: new connections a second (with a pool: requests) from one address to one address and
port, the highest rate at which no connect failed; it is found to {near:.0%}. {measured_with} *No
limit*: no connect failed at {most:,.0f} a second with so {so} ports.

**Memory**: what the proxy's kernel keeps of closed connections at that rate, for {linux_ports:,}
ports. What a connect costs in processor time as the range fills cannot be seen in virtual time;
[ceiling](ceiling.md) has it, from a host's kernel.

**Does harm**: the first treatment of each of {scenarios} scenarios was run with the settings of the
way on every node instead of its own, {runs} runs in all, with timestamps and without, of which
{judged} could be judged. Named are those that did harm, and do none under the full TIME_WAIT;
`harm.py` says what counts as harm in each. {always} The old segments in them are about 2 s old, but
for `stale-segment`, which was run with {delays} s. The clients in them name their ports, as many
proxies do, which with timestamps opens a four-tuple again at once, even in a full TIME_WAIT; PAWS
then stands guard. What an application does differently (a pool, more addresses) leaves the settings
as they are, and their harm. Where a connection has no TIME_WAIT, the scenarios were run with one of
0.1 s, since their steps look for it. An empty cell: without timestamps the way does nothing, or the
row is the other case.

All origins here have Linux's TCP. `origin-closes-first` is a way out only where the origin's TCP
opens its TIME_WAIT for a newer SYN. gVisor's does; lwIP's does not, unless it has a small pool of
control blocks ([stacks that are not Linux](stacks.md)).

{table}
{notes}"""


_MORE_PORTS = (
    "With 2,000 ports (`twlab alternatives --no-judge --ports 40000-41999`) and with 28,232 (`--ports 32768-60999`) "
    "20 of the 21 ways that have a limit give the same rates, scaled. `keep-alive` gives 1.6 % more, a step of the "
    "search."
)


def page(made: Mapping[str, Any]) -> str:
    """docs/findings/alternatives.md.

    Args:
        made: the content of ``alternatives.json``.
    """
    rows, ports = made["rows"], made.get("ports", PORTS)
    full = rows[0] if rows[0]["name"] == "control" else None
    judged = [row for row in rows if row["judged"]]
    missed = sorted({row["name"] for row in rows if row["sustained_per_s"] is None})
    notes = [f"Not measured: {', '.join(f'`{name}`' for name in missed)}.\n"] if missed else []
    notes += [
        f"`{row['name']}` was measured on Linux {row['kernel'].split()[0]} and in real time: "
        "the lab kernel has no such sysctl.\n"
        for row in rows
        if row["kernel"] and row["kernel"] != made["kernel"]
    ]
    text = _PAGE.format(
        command=made["command"],
        kernel=(made["kernel"] or "?").split()[0],
        near=NEAR - 1,
        measured_with=_measured_with(ports),
        so="few" if ports < LINUX_PORT_COUNT else "many",
        linux_ports=LINUX_PORT_COUNT,
        most=max((row["sustained_per_s"] or 0 for row in rows), default=0),
        scenarios=len(HARM),
        runs=made["judged"] + made["not_judged"],
        judged=made["judged"],
        always=_always(full) if judged else "",
        delays=", ".join(map(str, DELAYS_S)),
        table=_table(rows, full, ports),
        notes="\n".join(notes),
    )
    return "\n\n".join(part if part.startswith((" ", "|", "#")) else _wrapped(part) for part in text.split("\n\n"))


def _wrapped(paragraph: str) -> str:
    end = "\n" if paragraph.endswith("\n") else ""
    return textwrap.fill(" ".join(paragraph.split()), 100, break_long_words=False, break_on_hyphens=False) + end


def _always(full: Mapping[str, Any] | None) -> str:
    if not full or full["does_harm"] is None:
        return ""
    lists = [
        ", ".join(f"`{name}`" for name in full[key] or ()) or "none"
        for key in ("does_harm", "does_harm_without_timestamps")
    ]
    return f"Under the full TIME_WAIT these do: with timestamps {lists[0]}; without {lists[1]}."


def _measured_with(ports: int) -> str:
    if ports == LINUX_PORT_COUNT:
        return f"Measured with Linux's {ports:,} ports; `keep-alive` and `tw-reuse-delay-100-ms` with a tenth."
    return (
        f"Measured with {ports:,} ports instead of Linux's {LINUX_PORT_COUNT:,}, to which it is scaled. That the rate "
        f"is proportional to the ports is measured at full size by `twlab ceiling`, which finds "
        f"{LINUX_SUSTAINS_PER_S[0]} for `control`. {_MORE_PORTS if ports == PORTS else ''}"
    )


def _table(rows: Sequence[Mapping[str, Any]], full: Mapping[str, Any] | None, ports: int) -> str:
    lines = [
        (
            "| way | what, and where | sustained, of 28,232 ports | memory | the application sees past it "
            "| does harm | without timestamps |"
        ),
        "| --- | --- | ---: | ---: | --- | --- | --- |",
    ]
    for row in rows:
        harm = [harm_text(row, full, key) for key in ("does_harm", "does_harm_without_timestamps")]
        cells = [
            f"`{row['name']}`",
            f"{row['what']}: {row['where']}",
            scaled_text(row),
            memory_text(row, ports),
            row["fails"] or "",
            *harm,
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def sustained_text(row: Mapping[str, Any]) -> str:
    """Return the rate with the lab's few ports."""
    if row["sustained_per_s"] is None:
        return "not measured"
    return f"{row['sustained_per_s']:,.4g}" if row["limited"] else f"{row['sustained_per_s']:,.0f} and more"


def scaled_text(row: Mapping[str, Any]) -> str:
    """Return the rate for Linux's range."""
    if row["sustained_per_s"] is None:
        return "not measured"
    return f"{row['of_28232_ports_per_s']:,.0f}" if row["limited"] else "no limit"


def memory_text(row: Mapping[str, Any], ports: int) -> str:
    """Return the kernel memory of closed connections, for Linux's range.

    Args:
        ports: with which the row was measured.
    """
    if not row["bytes_each"]:
        return ""
    factor = row["of_28232_ports_per_s"] / row["sustained_per_s"] if row["limited"] else LINUX_PORT_COUNT / ports
    return f"{row['in_time_wait'] * factor * row['bytes_each'] / 1e6:.1f} MB"


def harm_text(row: Mapping[str, Any], full: Mapping[str, Any] | None, key: str) -> str:
    """List the scenarios that do harm.

    Those that do harm under the full TIME_WAIT, too, are left out.
    """
    if row[key] is None:
        return ""
    if row is full:
        return ", ".join(row[key]) or "nothing"
    always = set((full or {}).get(key) or ())
    return ", ".join(name for name in row[key] if name not in always) or ("no more" if full else "nothing")
