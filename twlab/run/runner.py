"""Runs scenarios on an engine, and writes their results."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from twlab import loop
from twlab.engines import jobs
from twlab.engines.protocol import Engine, Event, Job, OnEvent, Request, arms_request
from twlab.errors import Interrupted, LabError
from twlab.overrides import Overrides
from twlab.results.evidence import ArmEvidence
from twlab.results.folder import new_folder, now
from twlab.results.result import ArmPrediction, ArmResult, Result
from twlab.run import side_by_side
from twlab.run.provenance import describe_network, versions
from twlab.run.worlds import find_world
from twlab.scenario import Scenario
from twlab.world import PINNED, World, WorldName

AGENT = "twlab.run.agent"  # runs arms inside an engine


@dataclass(frozen=True)
class Order:
    """What to run.

    Attributes:
        scenarios: source (name, or path of a file) and scenario.
        arms: the arms wanted, by their names or roles; empty: all.
        sets: ``KEY=VALUE`` and ``NODE:KEY=VALUE`` texts, see `twlab.overrides.Overrides`.
        seed: for everything random.
        out: where the runs' folders are made.
        real_limit_s: real seconds for one arm to take.
        mechanisms: setting to mechanism, where another than the engine's own is wanted.
        keep_control: the control keeps its settings, also where `arms` names it.
        boots: lab kernels that may run side by side where there are many arms; 0: all in one boot,
            which gives other random numbers.
        kernel: the lab kernel that was asked for, by its series or path; empty: none in particular.
            For the record: the engine has it.
        world: the sysctls that arms start from, see `twlab.world`.
    """

    scenarios: Sequence[tuple[str, Scenario]]
    arms: Sequence[str] = ()
    sets: Sequence[str] = ()
    seed: int = 1
    out: Path = Path("runs")
    real_limit_s: float = 300.0
    mechanisms: dict[str, str] = field(default_factory=dict)
    kernel: str = ""
    keep_control: bool = False
    boots: int = 0
    world: WorldName = "pinned"


@dataclass
class _Job:
    result: Result
    folder: Path
    arm: str
    source: str
    overrides: Overrides
    started_s: float = 0.0


@dataclass
class Finished:
    """A result and the folder that holds it."""

    result: Result
    folder: Path


def run(order: Order, engine: Engine, listener: Callable[[Event], None] = lambda event: None) -> list[Finished]:
    """Run all of `order` on `engine`, in one boot as long as the engine stays up.

    If the engine fails, the arm under way is recorded with its error, and the arms after it get a
    fresh boot. Nothing runs twice. Results are written after every arm, so that an interruption
    loses only the arm under way.

    Raises:
        UsageError: no such arm (``no-such-arm``), an override that no scenario takes, or a topology
            that cannot be made.
        CapabilityError: results cannot be written, or the engine cannot run on this machine.
        Interrupted: by Ctrl-C; it names the folders, which are kept.
    """
    world = find_world(order.world)
    finished, waiting = _plan(order, engine, world)
    try:
        _carry_out(order, engine, waiting, listener, world)
    except KeyboardInterrupt as stop:
        raise Interrupted(kept(finished)) from stop
    except LabError:
        _remove_if_empty(finished)
        raise
    return finished


def kept(finished: Sequence[Finished]) -> str:
    """Return what is kept of interrupted runs.

    It names each folder, and how many of its arms are done.
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
    order: Order, engine: Engine, waiting: list[_Job], listener: Callable[[Event], None], world: World
) -> None:
    def on_event(event: Event, job: _Job | None) -> None:
        """Record what has been done, and pass the event on, with names instead of numbers."""
        if job:
            event = {**event, "scenario": job.result.scenario, "arm": job.arm}
            if event["event"] == "start":
                job.started_s = loop.monotonic_s()
            elif event["event"] == "arm":
                _record(job, ArmEvidence(**event["result"]), event.get("kernel", ""))
                event |= {"ok": job.result.arms[job.arm].ok, "outcome": job.result.arms[job.arm].outcome}
        listener(event)

    if parts := _parts(order, engine, waiting):

        def numbered(event: Event) -> None:
            on_event(event, waiting[event["job"]] if "job" in event else None)

        request = _request(order, waiting, engine, world)
        side_by_side.run(request, AGENT, parts, order.out.resolve(), order.real_limit_s, numbered, order.boots)
        return

    def boot(left: Sequence[_Job], on_boot_event: OnEvent) -> None:
        request = _request(order, left, engine, world)
        engine.run(request, _common_folder(left, order.out), on_boot_event, order.real_limit_s * len(left))

    jobs.carry_out(waiting, boot, on_event)


def _parts(order: Order, engine: Engine, waiting: Sequence[_Job]) -> list[list[int]]:
    """Return how the jobs are dealt to boots side by side; empty: all in one.

    The order alone decides, not the number of this machine's processors.
    """
    if engine.name != "guest" or order.boots == 0 or len(waiting) < side_by_side.FEWEST_ARMS:
        return []
    return side_by_side.deal([job.result.scenario for job in waiting])


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


def _plan(order: Order, engine: Engine, world: World) -> tuple[list[Finished], list[_Job]]:
    """Make folders and empty results.

    Returns:
        The results with their folders, and the jobs in the order in which they will run.
    """
    order = replace(order, scenarios=[(source, scenario.on(engine.release)) for source, scenario in order.scenarios])
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
            world=world.name,
            not_carried=dict(world.left),
            versions=versions(),
            network=network,
            wall={"started": now().isoformat(timespec="seconds"), "arms": {}},
        )
        folder = new_folder(order.out, scenario.name)
        finished.append(Finished(result, folder))
        for arm in scenario.chosen(order.arms):
            changed = overrides.for_arm(scenario.roles[arm], () if order.keep_control else order.arms)
            expect = scenario.prediction(arm, changed)
            sizes = {} if expect else scenario.resized(arm, changed)
            prediction = ArmPrediction(
                scenario.roles[arm], expect.on(engine.release).as_dict() if expect else {}, sizes
            )
            result.arms[arm] = ArmResult.of(prediction, ArmEvidence(error=_not_run()))
            jobs.append(_Job(result, folder, arm, source, changed))
        result.write(folder, arms_are_final=True)
    return finished, jobs


def _request(order: Order, jobs: Sequence[_Job], engine: Engine, world: World) -> Request:
    wanted = [
        Job(source=job.source, arm=job.arm, folder=str(job.folder.resolve()), set=job.overrides.as_dict())
        for job in jobs
    ]
    return arms_request(wanted, seed=order.seed, engine=engine.name, mechanisms=order.mechanisms, world=world)


def _record(job: _Job, evidence: ArmEvidence, kernel: str) -> None:
    if {**job.result.network, "topology": job.result.topology} == evidence.network:
        evidence.network = {}
    job.result.arms[job.arm] = ArmResult.of(job.result.arms[job.arm], evidence)
    job.result.kernel = kernel or job.result.kernel
    job.result.wall["arms"][job.arm] = round(loop.monotonic_s() - job.started_s, 3) if job.started_s else None
    job.result.write(job.folder, arms_are_final=True)


def _not_run() -> dict[str, str]:
    return {"slug": "not-run", "message": "the run ended before this arm", "remedy": "run it again"}


def _command(order: Order, source: str, engine: Engine) -> str:
    if order.keep_control and order.sets and "control" in order.arms:  # two runs then, for one would change it, too
        alone = replace(order, arms=["control"], sets=())
        others = replace(order, arms=[arm for arm in order.arms if arm != "control"])
        return " && ".join(_command(part, source, engine) for part in (alone, others) if part.arms)
    words = ["twlab", "run", source, "--engine", engine.name, "--seed", str(order.seed)]
    words += ["--kernel", order.kernel] if order.kernel else []
    words += ["--defaults", order.world] if order.world != PINNED.name else []
    for arm in order.arms:
        words += ["--arm", arm]
    for pair in order.sets:
        words += ["--set", pair]
    return shlex.join(words)


def _common_folder(jobs: Sequence[_Job], out: Path) -> Path:
    folders = {job.folder for job in jobs}
    return (folders.pop() if len(folders) == 1 else out).resolve()


def _remove_if_empty(finished: Sequence[Finished]) -> None:
    """Remove the folders of runs without a finished arm: the machine could not run any."""
    for run in finished:
        if all(arm.error == _not_run() for arm in run.result.arms.values()):
            for file in run.folder.iterdir():
                file.unlink()
            os.rmdir(run.folder)
