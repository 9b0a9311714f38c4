"""The command `twlab proxy`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from twlab.commands import proxy_options as options
from twlab.commands.console import KernelOption, err, kept, out, own_command
from twlab.commands.progress import bar, is_live
from twlab.engines import use_kernel
from twlab.engines.protocol import Event
from twlab.errors import Interrupted
from twlab.overrides import Overrides
from twlab.own_proxy.order import AS_IT_IS, Order, Prepared, prepare
from twlab.own_proxy.outcome import FILE, Outcome, engine_for, run


def proxy(
    configuration: options.FileArgument,
    rate: options.RateOption = 500,
    duration: options.DurationOption = None,
    sets: options.SetOption = None,
    ports: options.PortsOption = "",
    scale: options.ScaleOption = None,
    origin: options.OriginOption = None,
    listen: options.ListenOption = 0,
    host: options.HostOption = "",
    path: options.PathOption = "",
    after: options.AfterOption = None,
    change: options.ChangeOption = None,
    keep_alive: options.KeepAliveOption = False,
    client: options.ClientOption = "",
    method: options.MethodOption = "GET",
    race: options.RaceOption = True,
    ceiling: options.CeilingOption = True,
    program: options.ProgramOption = "",
    engine: options.EngineOption = "",
    kernel: KernelOption = "",
    seed: options.SeedOption = 1,
    folder: options.OutOption = Path("runs"),
    as_json: options.JsonOption = False,
) -> None:
    """Run your own proxy configuration in the lab, and what would help.

    The file runs unchanged, in a lab with the addresses that it names. Then each change runs: of
    the kernel's settings, of the origins, of the configuration. What the lab cannot provide is told
    by name.
    """
    order = Order(
        path=configuration,
        program=program,
        rate_per_s=rate,
        duration_s=duration,
        settings=Overrides.parse([*options.settings_of_ports(ports), *(sets or ())], []).settings,
        scale=scale,
        origins=options.named_addresses(origin or ()),
        listen=listen,
        host=host,
        path_asked=path,
        after=after,
        keep_alive=keep_alive,
        client=client,
        method=method,
        race=race,
        ceiling=ceiling,
        only=tuple(change or ()),
        seed=seed,
        command=own_command(),
    )
    prepared = prepare(order)
    use_kernel(kernel, engine)
    place, outcome = _run(order, prepared, engine, folder)
    kept.append(place / FILE)
    if as_json:
        print(json.dumps(outcome.as_dict(), indent=1))
    else:
        _show(outcome)
    (err if as_json else out).print(str(place / FILE), markup=False)
    if any("error" in arm for arm in outcome.arms.values()):
        raise typer.Exit(1)


def _run(order: Order, prepared: Prepared, engine: str, folder: Path) -> tuple[Path, Outcome]:
    """Run it, with progress; return the folder of the result, and the outcome."""
    chosen = engine_for(engine)
    done, total = 0, len(prepared.arms)
    try:
        with bar(err, "proxy") as advance:

            def on_event(event: Event) -> None:
                nonlocal done
                if event["event"] == "arm":
                    done += 1
                    advance(done / total, f"{done}/{total}  {event['name']}")
                elif event["event"] == "progress" and is_live(err):
                    advance(done / total, f"{done}/{total}  a load: {event['share']:.0%}")

            return run(order, prepared, chosen, folder, on_event)
    except KeyboardInterrupt as stop:
        raise Interrupted(f"kept in {folder}: {done} of {total} arms" if done else "nothing is kept") from stop


def _show(outcome: Outcome) -> None:
    about = outcome.about
    route = about["route"]
    listener = _at(route["listener"])
    targets = ", ".join(map(_at, route["origins"]))
    load = f"{about['rate_per_s']:g} {about['method']} requests a second for {about['duration_s']:g} s"
    lines = [
        ("asked", f"{listener}{' (TLS)' if route['listener']['tls'] else ''}, {route['host']}{route['path']}"),
        ("leads to", f"{route['name']}: {targets}"),
        ("load", f"{load}; {about['ports']:,} ports, TIME_WAIT {about['time_wait_s']:g} s"),
    ]
    if about["scale"] > 1:
        lines.append(("", f"the lab divides ports and rate by {about['scale']}; the figures are multiplied back"))
    lines += [("not here", f"{absent['what']}: {absent['way_round']}") for absent in about["absent"]]
    out.print(f"[bold]{about['program']} {about['version']}[/bold], {escape(about['configuration'])}, unchanged")
    for name, text in lines:
        out.print(f"{name:11}{escape(text)}", soft_wrap=False)
    out.print()
    out.print(_table(outcome), soft_wrap=False)
    _show_changes(outcome)


def _at(place: dict[str, Any]) -> str:
    host = f"[{place['host']}]" if ":" in place["host"] else place["host"] or "*"
    return f"{host}:{place['port']}"


def _table(outcome: Outcome) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("what runs", overflow="fold")
    for column in ("answered", "ceiling, theory", "measured", "TIME_WAIT proxy", "origin"):
        table.add_column(column, justify="right")
    table.add_column("clients see", overflow="fold")
    table.add_column("race: GET", overflow="fold")
    table.add_column("POST", overflow="fold")
    scale = outcome.about["scale"]
    for arm in outcome.arms.values():
        if "error" in arm:
            table.add_row(escape(arm["name"]), "", "", "", "", "", escape(arm["error"]["message"][:200]))
            continue
        load = arm["load"]
        held = load["in_time_wait"]
        table.add_row(
            escape(arm["name"]),
            f"{load['answered'] / max(1, load['asked']):.1%}",
            _theory(arm),
            _ceiling(arm, scale, outcome.about["rate_per_s"]),
            f"{held.get('proxy', 0) * scale:,}",
            f"{held.get('origin', 0) * scale:,}",
            escape(_sees(load)),
            escape(_race(arm, "GET")),
            escape(_race(arm, "POST")),
        )
    return table


def _theory(arm: dict[str, Any]) -> str:
    return (
        f"{arm['theory_per_s']:,.1f}"
        if arm["load"]["in_time_wait"].get("proxy") and (arm["load"]["sees"] or not arm["origin_closes"])
        else "none"
    )


def _ceiling(arm: dict[str, Any], scale: int, rate: float) -> str:
    found = arm.get("ceiling")
    if not found:
        return f"at least {rate:,.6g}" if not arm["load"]["sees"] else f"below {rate:,.6g}"
    low, high = found["sustained_per_s"], found["failing_per_s"]
    if high is None:
        return f"at least {low * scale:,.1f}"
    return f"{(low or 0) * scale:,.1f} to {high * scale:,.1f}"


def _sees(load: dict[str, Any]) -> str:
    return ", ".join(f"{answer} x{count}" for answer, count in load["sees"].items()) or "200"


def _race(arm: dict[str, Any], method: str) -> str:
    races = [arm["race"][f"{method} {ends}"] for ends in ("FIN", "RST")] if "race" in arm else []
    told = []
    for ends, found in zip(("FIN", "RST"), races, strict=False):
        again = " (sent again)" if found["sent"] > 1 else ""
        told.append((ends, f"{found['sees']}{again}" if found["kept"] else "no connection is kept"))
    if len({text for _, text in told}) == 1:
        return told[0][1]
    return ", ".join(f"{ends}: {text}" for ends, text in told)


def _show_changes(outcome: Outcome) -> None:
    arms = list(outcome.arms.values())
    first = arms[0]
    if complaint := first.get("load", {}).get("complaint"):
        out.print(f"\nits log says, {first['load']['complaints']} times: {escape(complaint.strip())}")
    out.print("\n[bold]what was changed[/bold]")
    for arm in arms:
        if arm["name"] == AS_IT_IS:
            continue
        out.print(f"{escape(arm['name'])}: {escape(arm['what'])}")
        for line in arm["diff"][:12]:
            if line.startswith(("+", "-")):
                out.print(f"    {escape(line)}")
