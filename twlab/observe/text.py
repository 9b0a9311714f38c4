"""Writes findings for a terminal.

Lines of text, from aggregate figures and from the late packets with their evidence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from twlab.observe.findings import Findings, Late

WHAT = {
    "copy": "network copy: a second delivery of a segment",
    "retransmission": "retransmission: its bytes again, sent anew",
    "delayed": "delayed: first seen after its close",
    "answer": "the hosts' answers: RST, ACK, keepalive",
    "foreign": "foreign: other numbers or bytes than were sent",
    "undecided": "undecided: nothing dates it",
}
_CANNOT = (
    "what was late before it came to this tap, or was lost behind it",
    "whether the receiver took a segment: `harmed` applies its rules to what passed here",
    "at a sender's own tap: anything that comes late at its peer",
)


def seconds(value: float | None) -> str:
    """Write a time: ``85 us``, ``12.3 ms``, ``4.05 s``, ``2.1 min``."""
    if value is None or value != value:
        return "-"
    for limit, unit, name in ((1e-3, 1e-6, "us"), (1.0, 1e-3, "ms"), (120.0, 1.0, "s"), (7200.0, 60.0, "min")):
        if value < limit:
            return f"{value / unit:.3g} {name}"
    return f"{value / 3600:.3g} h"


def bound(count: int) -> str:
    """Write the upper bound of a share of which none was seen in `count`.

    It is 95 % sure (the rule of three).
    """
    if count < 3:
        return "too few to say anything"
    share = 3 / count
    return (
        f"less than {100 * share:.2g} % of closes"
        if share >= 1e-5
        else f"less than {1e6 * share:.2g} in a million closes"
    )


def summary(values: dict[str, Any]) -> Iterator[str]:
    """Write the lines about aggregate figures, see `twlab.observe.publish`."""
    captures = f"{values['captures']} captures, " if values["captures"] != 1 else ""
    yield (
        f"watched      {captures}{seconds(values['watched_s'])}, {values['frames']:,} frames, "
        f"{values['packets']:,} of them TCP"
    )
    if values["duplicates"]:
        yield f"             {values['duplicates']:,} further sightings of packets by the capture were left out"
    if values["clock_ran_back"]:
        yield (
            f"             the clock ran back {values['clock_ran_back']:,} times by over 1 ms: packets stand "
            "in the order of the file"
        )
    closes = values["closes"]
    by_fin = sum(count for who, count in closes.items() if who != "reset")
    yield (
        f"connections  {values['connections']:,}, of which {values['opened']:,} were opened in view, "
        f"{values['open']:,} left open"
    )
    if values["one_way"]:
        yield f"             of {values['one_way']:,} only one direction was seen"
    first = ", ".join(
        f"{words} {closes[who]:,}"
        for who, words in (
            ("client", "the client"),
            ("server", "the server"),
            ("both", "both at once"),
            ("unknown", "not known"),
        )
        if closes[who]
    )
    yield (
        f"closed       {by_fin:,} by FIN{f' (first: {first})' if first else ''}, {closes['reset']:,} by RST, "
        "which leaves no TIME_WAIT"
    )
    yield ""
    yield from _classes(values, by_fin)
    yield ""
    yield from _reuse(values)
    yield ""
    yield from _table(values)
    yield ""
    yield "not to be known from one capture:"
    yield from (f"  - {what}" for what in _CANNOT)
    yield (
        "  - what came later than the capture goes on after a close; packets were remembered for "
        f"{seconds(values['remembered_s'])}"
    )


def _classes(values: dict[str, Any], closes: int) -> Iterator[str]:
    rows = []
    zeros = []
    for name, words in WHAT.items():
        kind = values["late"][name]
        late, age = kind["lateness_s"], kind["age_s"]
        if late["n"]:
            rows.append(
                [
                    words,
                    f"{late['n']:,}",
                    *(seconds(late[at]) for at in ("p50", "p90", "p99", "max")),
                    seconds(age.get("max")),
                ]
            )
        else:
            rows.append([words, "0", "", "", "", "", ""])
            zeros.append(name)
        extra = [
            f"{kind[of]:,} {text}"
            for of, text in (("before_close", "before the close"), ("undated", "with no close in view"))
            if kind[of]
        ]
        if extra:
            rows.append([f"  and {', '.join(extra)}", "", "", "", "", "", ""])
    yield from columns(["after the close", "n", "median", "90 %", "99 %", "latest", "oldest"], rows)
    if zeros and closes:
        yield f"none of {', '.join(zeros)}: watched for after {closes:,} closes, so {bound(closes)} each (95 % sure)"
    elif zeros:
        yield "no connection was closed by FIN in view: the zeros say nothing"


def _reuse(values: dict[str, Any]) -> Iterator[str]:
    gap, signed, reset = values["reuse"]["gap_s"], values["reuse"]["tw_reuse_gap_s"], values["reuse"]["after_reset"]
    if not gap["n"]:
        yield (
            "reuse        no four-tuple was used again after a close by "
            f"FIN{f'; {reset:,} after a RST' if reset else ''}"
        )
        return
    yield (
        f"reuse        {gap['n']:,} four-tuples were used again after a close: after {seconds(gap['min'])} at "
        "the soonest, "
        f"median {seconds(gap['p50'])}, 99 % {seconds(gap['p99'])}"
    )
    if signed["n"]:
        yield (
            f"             {signed['n']:,} with the numbers of tcp_tw_reuse, after {seconds(signed['min'])} "
            "at the soonest"
        )
    else:
        yield "             none with the numbers of tcp_tw_reuse (last number + 65,537)"
    if reset:
        yield f"             and {reset:,} after a RST"


def _table(values: dict[str, Any]) -> Iterator[str]:
    rows = []
    for length, row in values["time_wait"].items():
        known = row["exposed"] - row["refused"]
        window = f"{row['in_window']:,} of {known:,}" if row["exposed"] else "0"
        remark = (
            "" if row["exposed"] else bound(row["watched"]) if row["watched"] else "no close was watched for so long"
        )
        rows.append(
            [
                f"{length} s",
                f"{row['exposed']:,}",
                f"{row['met']:,}",
                f"{row['harmed']:,}",
                window,
                f"{row['watched']:,}",
                remark,
            ]
        )
    yield from columns(
        ["TIME_WAIT", "exposed", "met", "harmed", "would be in window", "closes watched for it", ""], rows
    )
    yield (
        "exposed: copies and delayed segments later than it. met: the next connection was open. harmed: it "
        "took the segment."
    )
    yield "would be in window: of a connection opened at its end, by Linux's clock of initial sequence numbers."


def notes(found: Findings) -> Iterator[str]:
    """Write what was not read of the captures, and why."""
    for name, words in (
        ("cut", "frames were cut before the TCP header's window"),
        ("malformed", "TCP packets have lengths that do not fit"),
        ("fragment", "fragments have no TCP header"),
    ):
        if found.counts[name]:
            yield f"not read     {found.counts[name]:,} {words}"
    for link, count in sorted(found.links.items()):
        yield f"not read     {count:,} frames of link type {link}, which is not known here"
    if found.bad_times:
        yield f"not read     {found.bad_times:,} frames without a time, or with one out of range"
    if found.split:
        yield (
            f"apart        {found.split:,} four-tuples have the numbers of one connection in several virtual networks "
            "(VLAN, tunnel), and were counted in each"
        )
    if found.forgotten:
        yield f"forgotten    {found.forgotten:,} four-tuples that were idle longest, to stay within memory"


def columns(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Write a table.

    The first column is aligned left, and so is a last one without a heading. All others are aligned
    right.
    """
    lines = [head, *rows]
    widths = [max(len(line[at]) for line in lines) for at in range(len(head))]
    for line in lines:
        cells = [
            cell.ljust(width) if at in (0, len(head) - 1) and (at == 0 or not head[-1]) else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def pairs(found: Findings, most: int) -> Iterator[str]:
    """Write the pairs of hosts that reuse four-tuples most."""
    listed = sorted(found.reuse.pairs.items(), key=lambda item: -item[1][0])
    if not listed:
        return
    rows = [
        [f"{client} > {server}:{port}", f"{count:,.0f}", f"{signed:,.0f}", seconds(least)]
        for (client, server, port), (count, signed, least) in listed[:most]
    ]
    yield from columns(["reuse by", "n", "tw_reuse", "soonest"], rows)
    if len(listed) > most:
        yield f"and {len(listed) - most:,} more pairs"


def evidence(
    found: Findings, most: int, kinds: Sequence[str] = ("copy", "foreign", "delayed", "undecided", "retransmission")
) -> Iterator[str]:
    """Write the late packets with their evidence, the gravest first."""
    listed = sorted(
        (late for late in found.late if late.kind in kinds),
        key=lambda late: (not late.harmed, not late.met, kinds.index(late.kind)),
    )
    for late in listed[:most]:
        yield from _one(late, len(found.files) > 1)
    if len(listed) > most:
        yield f"and {len(listed) - most:,} more (--list {len(listed)}; all of them with --json or --csv)"


def _one(late: Late, several: bool) -> Iterator[str]:
    source, sport, destination, dport = (f"[{end}]" if ":" in str(end) else end for end in late.flow)
    where = f"{late.frame.file} " if several else ""
    when = f"{seconds(late.late_s)} after the close" if late.late_s is not None else "close not seen, or still open"
    age = f", {seconds(late.age_s)} old" if late.age_s is not None else ""
    yield (
        f"{where}#{late.frame.number}  {late.kind}  {source}:{sport} > {destination}:{dport}  {late.what}  {when}{age}"
    )
    beside = f" (beside {', '.join(f'#{frame.number}' for frame in late.against)})" if late.against else ""
    yield f"    {late.rule}{beside}"
    if late.met:
        contents = {"differ": "; the connection sent other bytes in that place", "same": "; the same bytes", "": ""}[
            late.contents
        ]
        yield f"    met the next connection: {'harm' if late.harmed else 'no harm'}, {late.why}{contents}"
