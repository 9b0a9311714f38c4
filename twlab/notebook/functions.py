"""The functions `twlab.run`, `open`, `sweep`, `plan` and `observe`.

They may be called from any thread, several at a time, and from inside a running event loop.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from twlab.catalogue import find_scenario
from twlab.engines import choose, kernel_path
from twlab.engines.kernel import Kernel
from twlab.errors import UsageError, did_you_mean
from twlab.notebook.progress import bar
from twlab.notebook.runs import Run
from twlab.notebook.studies import Observation, PlanView, Sweep
from twlab.observation import plain
from twlab.planner import plan as planning
from twlab.planner.demand import Demand
from twlab.results.files import check_file
from twlab.results.result import read_result
from twlab.run import runner
from twlab.studies.sweep import fill as sweeping

_LENGTHS_S = (60.0, 30.0, 15.0, 10.0, 1.0)


def run(
    scenario: str | os.PathLike[str],
    *,
    arms: Sequence[str] = (),
    on: Mapping[str, Mapping[str, Any]] | None = None,
    engine: str = "",
    kernel: str = "",
    seed: int = 1,
    out: str | os.PathLike[str] = "runs",
    progress: bool | None = None,
    **settings: Any,
) -> Run:
    """Run a scenario, as ``twlab run`` does.

    For example ``twlab.run("stale-data", time_wait_s=10)``.

    Args:
        scenario: its name, or the path of a file that holds one.
        arms: those to run, by name or role; empty: all.
        settings: settings and arguments of the scenario's steps, for all arms but the control.
        on: node to settings, for that node alone: ``on={"server": {"rfc1337": 1}}``.
        engine: ``guest`` or ``host``; empty: guest on x86-64.
        kernel: of the guest: a series (``7.3``) or a path; empty: the newest that is built.
        seed: for everything random.
        out: folder in which the run's folder is made.
        progress: show a bar; None: in a notebook and on a terminal.

    Raises:
        UsageError: no such scenario, arm, setting or value.
        CapabilityError: this machine cannot run it, or has no such lab kernel.
    """
    scenario = os.fspath(scenario)
    sets = [f"{key}={plain(value)}" for key, value in settings.items()]
    sets += [f"{node}:{key}={plain(value)}" for node, values in (on or {}).items() for key, value in values.items()]
    order = runner.Order(
        scenarios=[(scenario, find_scenario(scenario))],
        arms=tuple(arms),
        sets=sets,
        seed=seed,
        out=Path(out),
        kernel=kernel,
    )
    runner.check(order)
    total = len(order.scenarios[0][1].chosen(order.arms))
    done = 0
    with bar(scenario, progress) as advance:

        def on_event(event: dict[str, Any]) -> None:
            nonlocal done
            done += event["event"] == "arm"
            if event["event"] == "start":
                advance(done / total, f"{event.get('arm', '')}, {done} of {total} arms done")

        finished = runner.run(order, choose(engine, agent=runner.AGENT, kernel=kernel), on_event)[0]
    return Run(finished.result, finished.folder)


def open(folder: str | os.PathLike[str]) -> Run:
    """Read an old run from its folder.

    Raises:
        UsageError: there is no result in it, or a broken one.
    """
    path = Path(folder)
    return Run(read_result(path), path if path.is_dir() else path.parent)


def sweep(
    scenario: str | os.PathLike[str],
    grid: Mapping[str, Sequence[Any]] | None = None,
    *,
    trials: int = 100,
    arm: str = "treatment",
    kernel: str = "",
    seed: int = 1,
    jobs: int = os.cpu_count() or 1,
    out: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
) -> Sweep:
    """Run a grid of settings.

    For example ``twlab.sweep("stale-segment", {"time_wait_s": [1, 10, 60]})``.

    Args:
        scenario: one with the arguments delay_s and trials, or the path of a file that holds one.
        grid: setting to values; timestamps, time_wait_s and delay_s have values of their own.
        trials: four-tuples in each cell.
        arm: the arm that the grid's settings change.
        kernel: a series (``7.3``) or a path; empty: the newest that is built.
        jobs: lab kernels side by side.
        out: JSON file, with CSV beside it, continued if it exists; None: no file.
        progress: show a bar; None: in a notebook and on a terminal.

    Raises:
        UsageError: the scenario cannot be swept, the grid or a number is wrong, or `out` holds
            another sweep (``other-sweep``), of another kernel for one.
        CapabilityError: this machine cannot run it, has no such lab kernel, or `out` cannot be
            written.
    """
    for name, count in (("trials", trials), ("jobs", jobs)):
        if not isinstance(count, int) or count < 1:
            raise UsageError(f"{name} is {count!r}: a whole number from 1 on is wanted", f"{name}=1", "bad-value")
    scenario = os.fspath(scenario)
    axes = [f"{key}={','.join(plain(value) for value in values)}" for key, values in (grid or {}).items()]
    table, wanted = sweeping.plan(find_scenario(scenario), arm, axes, trials, seed)
    program = kernel_path(kernel)
    table.kernel = str(Kernel(program).facts().get("version", ""))
    path = Path(out).with_suffix(".json") if out is not None else None
    if path:
        check_file(path)
        table.resume(path)
    with bar(scenario, progress) as advance:

        def on_cell(cell: tuple[str, ...]) -> None:
            if path:
                table.write(path)
            count = sum(each in table.done for each in wanted)
            advance(count / len(wanted), f"{count} of {len(wanted)} cells")

        sweeping.fill(table, scenario, wanted, jobs=jobs, on_cell=on_cell, kernel=str(program))
    if path:
        table.write(path)
    return Sweep(table, path)


def plan(**demand: Any) -> PlanView:
    """Compute ports needed and left, and the ways out.

    For example ``twlab.plan(rate_per_s=800, origins=2)``.

    Args:
        demand: see `twlab.planner.demand.Demand`; ``rate_per_s`` is 500 where it is not given.

    Raises:
        UsageError: no such value, or one out of range (``bad-plan``).
    """
    known = [spec.name for spec in fields(Demand)]
    if unknown := [name for name in demand if name not in known]:
        near = did_you_mean(unknown[0], known)
        raise UsageError(f"a plan has no {unknown[0]!r}{near}", f"it takes: {', '.join(known)}", "bad-plan")
    return PlanView(planning.make(Demand(**{"rate_per_s": 500, **demand})))


def observe(
    *captures: str | os.PathLike[str],
    time_wait_s: Sequence[float] = _LENGTHS_S,
    remember_s: float = 120.0,
) -> Observation:
    """Find late segments of closed connections in captures, read as one.

    Args:
        captures: pcap or pcapng files, plain or compressed.
        time_wait_s: lengths of TIME_WAIT to work out.
        remember_s: how long packets are remembered.

    Raises:
        UsageError: no capture was named, or a file is not one (``not-a-capture``).
    """
    if not captures:
        raise UsageError("no capture was named", 'for example: twlab.observe("proxy.pcapng")', "bad-observation")
    from twlab.observe.reading import observe as read

    return Observation(read([os.fspath(path) for path in captures], lengths_s=time_wait_s, remember_s=remember_s))
