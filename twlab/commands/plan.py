"""The command `twlab plan`."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from rich.markup import escape
from rich.table import Table

from twlab.commands import plan_options as options
from twlab.commands.console import out
from twlab.commands.symptom import show
from twlab.diagnose.explained import Cause, explain
from twlab.errors import UsageError
from twlab.planner.demand import LINUX_TIME_WAIT_S, Demand, late_s
from twlab.planner.hazards import KINDS
from twlab.planner.plan import Plan, make
from twlab.planner.shortage import FOUND_TO
from twlab.planner.ways import Answer, Way
from twlab.ports import LINUX_RANGE, LINUX_SUSTAINS_PER_S, PortChoice

_COLUMNS = 100


def plan(
    rate_per_s: options.RateOption = 500,
    origins: options.OriginsOption = 1,
    sources: options.SourcesOption = 1,
    busiest: options.BusiestOption = None,
    ports: options.PortsOption = LINUX_RANGE,
    reserved: options.ReservedOption = "",
    choice: options.ChoiceOption = PortChoice.CONNECT,
    neighbour_per_s: options.NeighbourOption = 0,
    neighbour_life_s: options.NeighbourLifeOption = None,
    time_wait_s: options.TimeWaitOption = 60,
    tw_reuse: options.TwReuseOption = 2,
    loopback: options.LoopbackOption = False,
    hz: options.HzOption = 250,
    life_s: options.LifeOption = 0.1,
    keep_alive: options.KeepAliveOption = True,
    closes_first: options.ClosesFirstOption = "proxy",
    timestamps: options.TimestampsOption = True,
    without_timestamps: options.WithoutTimestampsOption = 0,
    throughput: options.ThroughputOption = 1e6,
    delay_s: options.DelayOption = 10,
    window: options.WindowOption = 65_536,
    late_share: options.LateShareOption = 1e-6,
    loss_share: options.LossShareOption = 1e-3,
    symptom: options.SymptomOption = "",
    file: options.OutOption = None,
    as_json: options.JsonOption = False,
) -> None:
    """Compute the ports needed and left, and compare the ways out.

    For each way out: what it would sustain, and what can still go wrong; then advice. No lab runs.
    There are three answers: the rate suffices, is at the edge (between what is sustained for
    certain and the ceiling in theory), or does not suffice. With --symptom it names what, at the
    proxy or beyond it, shows itself so.
    """
    given: dict[str, Any] = dict(locals())
    given["choice"] = choice.value
    given["port_low"], given["port_high"] = _range(ports)
    made = make(Demand(**{spec.name: given[spec.name] for spec in fields(Demand)}))
    causes = explain(made, [symptom]) if symptom else []
    if file:
        from twlab.report.html.plan_page import write

        write(made, file, symptom, [cause.as_dict() for cause in causes])
    if as_json:
        seen = {"seen": symptom, "causes": [cause.as_dict() for cause in causes]} if symptom else None
        print(json.dumps({**made.as_dict(), "symptom": seen}, indent=1))
    else:
        _show(made)
        _show_causes(symptom, causes)
        if file:
            out.print(f"\npage: {file}", markup=False)


def _range(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"\s*(\d+)\s*[-:, ]\s*(\d+)\s*", text, re.ASCII)
    if not found:
        raise UsageError(f"--ports {text} is no range of ports", f"for example --ports {LINUX_RANGE}", "bad-plan")
    return int(found[1]), int(found[2])


def _show(made: Plan) -> None:
    width = min(out.width, _COLUMNS) if out.is_terminal else _COLUMNS
    demand = made.demand
    for number, sentence in enumerate(made.advice):
        out.print(escape(sentence), style="bold" if number == 0 else "", soft_wrap=False, width=width)
    counts = f"four-tuples  {demand.four_tuples:,} there, {made.needed:,} needed, {made.left:,} left"
    if demand.time_wait_s and demand.closes_first == "proxy":
        counts += f"; TIME_WAIT sockets {made.asked.in_time_wait:,.0f}"
    out.print(f"\n{counts}\n")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("way", no_wrap=True)
    table.add_column("edge, /s", justify="right", no_wrap=True)
    table.add_column("what to change where", width=26, overflow="fold")
    table.add_column("what remains, a day", overflow="fold")
    for way in (made.asked, *made.ways):
        table.add_row(
            f"{_mark(way, demand)} {way.name}", way.edge_text(), escape(f"{way.change}: {way.where}"), _hazards(way)
        )
    out.print(table, soft_wrap=False, width=width)
    out.print(
        "✓ suffices  ~ at the edge  ✗ does not suffice  ! would suffice, and is not advised",
        soft_wrap=False,
        width=width,
    )
    out.print(
        "edge: up to the first rate it suffices, above the second it does not. "
        "Left out: less than one in a million years",
        soft_wrap=False,
        width=width,
    )
    out.print("\n[bold]what remains[/bold]  (shown by: twlab run NAME)")
    named = [
        name for name in KINDS if any(hazard.name == name for way in (made.asked, *made.ways) for hazard in way.hazards)
    ]
    for name in named:
        kind = KINDS[name]
        out.print(
            f"{name}: {kind.what}\n  per connection: {kind.formula}\n  {kind.source}",
            markup=False,
            soft_wrap=False,
            width=width,
        )
    _show_assumptions(demand, width)


def _show_assumptions(demand: Demand, width: int) -> None:
    late, loss = (
        f"{demand.late_share:g} of the connections leave a segment of up to {demand.delay_s:g} s",
        f"{demand.loss_share:g} of segments are lost",
    )
    out.print(f"\nassumed: {late}, {loss}", soft_wrap=False, width=width)
    if demand.time_wait_s == LINUX_TIME_WAIT_S and demand.closes_first == "proxy":
        late = (
            f"Linux's timers end its own 60 s up to {late_s(LINUX_TIME_WAIT_S, demand.hz):.2f} s late "
            f"at {demand.hz} ticks a second"
        )
        low, high = LINUX_SUSTAINS_PER_S
        measured = (
            f"With Linux's own ports the lab sustains {low} connections a second, and not {high} "
            "(twlab ceiling --time-wait 60)."
        )
        out.print(
            f"{late}, and a ceiling is measured to {FOUND_TO:.0%}: hence the edge. {measured}",
            soft_wrap=False,
            width=width,
        )


def _show_causes(seen: str, causes: Sequence[Cause]) -> None:
    for fits, title in ((True, "what may be its cause"), (False, "what these figures speak against")):
        chosen = [cause for cause in causes if cause.fits is fits]
        if chosen:
            out.print(f"\n[bold]{escape(seen)}: {title}[/bold]\n")
        for cause in chosen:
            show(cause.row, **({"here": cause.note} if cause.note else {}))


def _mark(way: Way, demand: Demand) -> str:
    answer = way.answer(demand.rate_per_s)
    if answer is Answer.NOT:
        return "✗"
    return "!" if not way.advised else "✓" if answer is Answer.SUFFICES else "~"


def _hazards(way: Way) -> str:
    told = [f"{hazard.name} {hazard.often()}" for hazard in way.hazards if hazard.often() != "never"]
    return "\n".join(told) or "nothing that is likely"
