"""alternatives"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from twlab.commands.console import KernelOption, err, kept, out
from twlab.commands.progress import bar
from twlab.engines import use_kernel
from twlab.engines.guest.engine import built_kernel
from twlab.errors import NOTHING_KEPT, Interrupted, LabError, UsageError, did_you_mean
from twlab.results import files
from twlab.scenario import load_scenarios
from twlab.studies.alternatives.page import harm_text, page, scaled_text, sustained_text
from twlab.studies.alternatives.table import ALTERNATIVES, Alternative, Job, as_csv, jobs, summary


def alternatives(
    names: Annotated[
        list[str] | None, typer.Argument(help="Rows of the table; default: all.", metavar="[NAME ...]")
    ] = None,
    judge: Annotated[
        bool, typer.Option(help="Also run the catalogue under each, to see which scenarios do harm.")
    ] = True,
    kernels: Annotated[int, typer.Option("--jobs", min=1, help="Lab kernels side by side.")] = os.cpu_count() or 1,
    kernel: KernelOption = "",
    seed: Annotated[int, typer.Option(help="For everything random.")] = 1,
    folder: Annotated[Path, typer.Option("--out", metavar="DIR", help="For alternatives.json, .csv and .md.")] = Path(
        "alternatives"
    ),
    as_json_: Annotated[bool, typer.Option("--json", help="Print alternatives.json.")] = False,
) -> None:
    """Every way out of running out of ports, measured in lab kernels: what it sustains, which
    scenarios do harm under it.

    Exit status: 0 all that this machine can do is measured, as planned; 1 a row is not.
    """
    from twlab.studies import batch

    use_kernel(kernel)
    wanted = _wanted(names or [])
    files.check_folder(folder)
    built_kernel()
    todo = jobs(load_scenarios(), wanted, judged=judge)
    source = str(Path(sys.modules["twlab.studies.alternatives.scenario"].__file__ or ""))
    arms = [(source if job.under is None else job.scenario, job.arm, list(job.sets)) for job in todo]
    done: list[tuple[Job, Mapping[str, Any]]] = []
    try:
        with bar(err, "alternatives") as advance:
            for number, result in batch.run(arms, seed=seed, kernels=kernels):
                job = todo[number]
                if job.under is None and (result["error"] or {}).get("slug") == "no-such-sysctl":
                    result = _on_this_machine(arms[number], seed, batch.carry_out) or result
                done.append((job, result))
                advance(len(done) / len(todo), f"{len(done)}/{len(todo)}  {_told(job, result)}")
    except KeyboardInterrupt as stop:
        raise Interrupted(f"{NOTHING_KEPT}: the table is written when all of it has been measured") from stop
    made = summary(done, wanted, command=shlex.join(["twlab", *sys.argv[1:]]), seed=seed)
    rows = made["rows"]
    text = json.dumps(made, indent=1) + "\n"
    written = {"json": text, "csv": as_csv(rows), "md": page(made)}
    files.write_all({folder / f"alternatives.{suffix}": content for suffix, content in written.items()})
    kept.append(folder)
    if as_json_:
        print(text, end="")
    else:
        _show(rows)
        out.print(
            f"\nlab kernel, Linux {made['kernel'].split(' ')[0] or 'not booted'}; {folder}/alternatives.json, .csv, .md",
            markup=False,
        )
    if any(not row["as_planned"] and "no net." not in (row["error"] or "") for row in rows):
        raise typer.Exit(1)


def _wanted(names: Sequence[str]) -> list[Alternative]:
    known = {alternative.arm: alternative for alternative in ALTERNATIVES}
    if unknown := [name for name in names if name not in known]:
        near = did_you_mean(unknown[0], known)
        raise UsageError(
            f"there is no alternative called {unknown[0]!r}{near}",
            f"they are: {', '.join(known)}",
            "no-such-alternative",
        )
    return [known[name] for name in names] or list(ALTERNATIVES)


def _on_this_machine(arm: tuple[str, str, list[str]], seed: int, carry_out: Callable[..., None]) -> dict[str, Any]:
    """The result of an arm for which the lab kernel lacks a sysctl, from this machine's kernel;
    empty if it has it neither.
    """
    results: list[dict[str, Any]] = []
    try:
        carry_out({"arms": [list(arm)], "seed": seed}, results.append, "host")
    except LabError:
        return {}
    return results[0] if results and results[0].get("observed") else {}


def _told(job: Job, result: Mapping[str, Any]) -> str:
    observed = result.get("observed")
    under = f" under {job.under[0]}, {'with' if job.under[1] else 'without'} timestamps" if job.under else ""
    facts = (
        " ".join(f"{key}={value}" for key, value in observed.items())
        if observed
        else (result.get("error") or {}).get("message", "")
    )
    return f"{job.scenario} {job.arm}{under}: {facts}"


def _show(rows: Sequence[Mapping[str, Any]]) -> None:
    made = Table(box=None, pad_edge=False, header_style="bold")
    for column, justify in (
        ("way", "left"),
        ("sustained /s", "right"),
        ("of 28,232 ports", "right"),
        ("past it", "left"),
        ("does harm", "left"),
    ):
        made.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    made.add_column("... without timestamps", overflow="fold")
    made.add_column("what to change where", overflow="fold")
    full = rows[0] if rows[0]["name"] == "control" else None
    for row in rows:
        cells = [
            row["name"],
            sustained_text(row),
            scaled_text(row),
            row["fails"] or "",
            harm_text(row, full, "does_harm"),
        ]
        made.add_row(
            *map(
                escape, [*cells, harm_text(row, full, "does_harm_without_timestamps"), f"{row['what']}: {row['where']}"]
            )
        )
    out.print(made, soft_wrap=False)
