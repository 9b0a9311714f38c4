"""From scenarios to results: which arms, on which engine, into which folder."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from twlab import loop
from twlab.engines import jobs
from twlab.engines.protocol import Engine, Event, Job, OnEvent, Request, arms_request
from twlab.errors import CapabilityError, Interrupted, LabError
from twlab.results.files import cannot_write
from twlab.results.result import ArmResult, Result
from twlab.scenario import Overrides, Scenario

AGENT = "twlab.run.agent"  # runs arms inside an engine


@dataclass(frozen=True)
class Order:
    """What to run.

    Attributes:
        scenarios: source (name, or path of a file) and scenario.
        arms: the arms wanted, by their names or roles; empty: all.
        sets: ``KEY=VALUE`` and ``NODE:KEY=VALUE`` texts, see `twlab.scenario.Overrides`.
        seed: for everything random.
        out: where the runs' folders are made.
        real_limit_s: real seconds for one arm to take.
        mechanisms: setting to mechanism, where another than the engine's own is wanted.
    """

    scenarios: Sequence[tuple[str, Scenario]]
    arms: Sequence[str] = ()
    sets: Sequence[str] = ()
    seed: int = 1
    out: Path = Path("runs")
    real_limit_s: float = 300.0
    mechanisms: dict[str, str] = field(default_factory=dict)


@dataclass
class _Job:
    result: Result
    folder: Path
    arm: str
    source: str
    started_s: float = 0.0


@dataclass
class Finished:
    """A result and the folder that holds it."""

    result: Result
    folder: Path


def run(order: Order, engine: Engine, listener: Callable[[Event], None] = lambda event: None) -> list[Finished]:
    """Run everything in `order` on `engine`, in one boot as long as the engine stays up.

    An arm that an engine does not survive is recorded as such, and the arms after it get a fresh
    boot. Nothing runs twice. Results are written after every arm, so an interruption loses the arm
    under way and no other.

    Raises:
        UsageError: no such arm (``no-such-arm``), an override that no scenario takes, or a topology
            that cannot be made.
        CapabilityError: results cannot be written, or the engine cannot run on this machine.
        Interrupted: by Ctrl-C; it names the folders, which are kept.
    """
    finished, waiting = _plan(order, engine)
    try:
        _carry_out(order, engine, waiting, finished, listener)
    except KeyboardInterrupt as stop:
        raise Interrupted(kept(finished)) from stop
    return finished


def kept(finished: Sequence[Finished]) -> str:
    """Say what is kept of runs that were interrupted: each folder, and how many of its arms were
    done.
    """
    lines = []
    for run in finished:
        arms = run.result.arms.values()
        done = sum(arm.error != _not_run() for arm in arms)
        if done or len(finished) == 1:
            lines.append(f"kept in {run.folder}: {done} of {len(arms)} arms")
    untouched = len(finished) - len(lines)
    if untouched:
        lines.append(f"{untouched} scenarios were not begun")
    return "\n  ".join(lines)


def _carry_out(
    order: Order, engine: Engine, waiting: list[_Job], finished: list[Finished], listener: Callable[[Event], None]
) -> None:
    def boot(left: Sequence[_Job], on_event: OnEvent) -> None:
        request = _request(order, left, engine)
        engine.run(request, _common_folder(left, order.out), on_event, order.real_limit_s * len(left))

    def on_event(event: Event, job: _Job | None) -> None:
        """Record what has been done, and tell the listener, by names instead of numbers."""
        if job:
            event = {**event, "scenario": job.result.scenario, "arm": job.arm}
            if event["event"] == "start":
                job.started_s = loop.monotonic_s()
            elif event["event"] == "arm":
                _record(job, event["result"])
                event |= {"ok": job.result.arms[job.arm].ok, "outcome": job.result.arms[job.arm].outcome}
        listener(event)

    try:
        jobs.carry_out(waiting, boot, on_event)
    except LabError:
        _remove_if_empty(finished)
        raise


def check(order: Order) -> Overrides:
    """Check what `order` names, without an engine; return what ``--set`` changes.

    Raises:
        UsageError: no such arm (``no-such-arm``), an override that no scenario takes, or a topology
            that cannot be made.
    """
    from twlab.network import load_topology

    overrides = Overrides.parse(list(order.sets), [scenario for _, scenario in order.scenarios])
    for topology in {
        scenario.topology_in(arm, overrides.given)
        for _, scenario in order.scenarios
        for arm in scenario.chosen(order.arms)
    }:
        overrides.check_nodes(load_topology(topology).nodes(), topology)
    return overrides


def _plan(order: Order, engine: Engine) -> tuple[list[Finished], list[_Job]]:
    """Folders, empty results, and the jobs in the order they will run."""
    overrides = check(order)
    networks = [describe_network(scenario.topology_in()) for _, scenario in order.scenarios]
    finished, jobs = [], []
    for (source, scenario), network in zip(order.scenarios, networks, strict=True):
        result = Result(
            scenario=scenario.name,
            hypothesis=scenario.hypothesis,
            reads=scenario.reads,
            topology=scenario.topology_in(),
            engine=engine.name,
            seed=order.seed,
            command=_command(order, source, engine),
            versions=versions(),
            network=network,
            wall={"started": _now().isoformat(timespec="seconds"), "arms": {}},
        )
        folder = new_folder(order.out, scenario.name)
        finished.append(Finished(result, folder))
        for arm in scenario.chosen(order.arms):
            changed = Overrides() if _spared(order, scenario.roles[arm]) else overrides
            expect = scenario.prediction(arm, changed)
            made = ArmResult(scenario.roles[arm], predicted=expect.as_dict() if expect else {}, error=_not_run())
            made.unpredicted = {} if expect else scenario.resized(arm, changed)
            result.arms[arm] = made
            jobs.append(_Job(result, folder, arm, source))
        result.write(folder)
    return finished, jobs


def _request(order: Order, jobs: Sequence[_Job], engine: Engine) -> Request:
    def sets(job: _Job) -> list[str]:
        return [] if _spared(order, job.result.arms[job.arm].role) else list(order.sets)

    wanted = [Job(source=job.source, arm=job.arm, folder=str(job.folder.resolve()), set=sets(job)) for job in jobs]
    return arms_request(wanted, seed=order.seed, engine=engine.name, mechanisms=order.mechanisms)


def _spared(order: Order, role: str) -> bool:
    """The control stays what it is, unless it was asked for by name: a control that was changed
    controls nothing.
    """
    return role == "control" and "control" not in order.arms


def _record(job: _Job, outcome: dict[str, Any]) -> None:
    arm = job.result.arms[job.arm]
    arm.error = None
    job.result.kernel = outcome.pop("kernel", job.result.kernel)
    for name, value in outcome.items():
        setattr(arm, name, value)
    if {**job.result.network, "topology": job.result.topology} == arm.network:
        arm.network = {}
    job.result.wall["arms"][job.arm] = round(loop.monotonic_s() - job.started_s, 3) if job.started_s else None
    job.result.write(job.folder)


def _not_run() -> dict[str, str]:
    return {"slug": "not-run", "message": "the run ended before this arm", "remedy": "run it again"}


def _command(order: Order, source: str, engine: Engine) -> str:
    words = ["twlab", "run", source, "--engine", engine.name, "--seed", str(order.seed)]
    for arm in order.arms:
        words += ["--arm", arm]
    for pair in order.sets:
        words += ["--set", pair]
    return shlex.join(words)


def versions() -> dict[str, str]:
    """The versions of what a run stands on."""
    packages = ("twlab", "mininet", "pyroute2", "scapy", "netfilterqueue")
    return {package: version(package) for package in packages} | {"python": platform.python_version()}


def describe_network(topology: str) -> dict[str, Any]:
    """Nodes and links, for the report's drawing."""
    from twlab.network import describe, load_topology

    return describe(load_topology(topology))


def _now() -> datetime:
    return datetime.fromtimestamp(loop.wall_s(), UTC)


def new_folder(out: Path, name: str) -> Path:
    """A folder of its own for a run: ``<out>/<time>-<name>``. Raises CapabilityError when it cannot
    be made (``cannot-write``).
    """
    stem = f"{_now():%Y%m%d-%H%M%S}-{name}"
    try:
        out.mkdir(parents=True, exist_ok=True)
        for number in range(1, 10_000):
            folder = out / (stem if number == 1 else f"{stem}-{number}")
            try:
                folder.mkdir()
                return folder
            except FileExistsError:
                continue
    except OSError as error:
        raise cannot_write(out, error) from error
    raise CapabilityError(f"{out} holds too many runs of this second", "name another folder with --out", "cannot-write")


def _common_folder(jobs: Sequence[_Job], out: Path) -> Path:
    folders = {job.folder for job in jobs}
    return (folders.pop() if len(folders) == 1 else out).resolve()


def _remove_if_empty(finished: Sequence[Finished]) -> None:
    """The machine could not run anything: leave no folders that hold nothing but `not-run`."""
    for run in finished:
        if all(arm.error == _not_run() for arm in run.result.arms.values()):
            for file in run.folder.iterdir():
                file.unlink()
            os.rmdir(run.folder)
