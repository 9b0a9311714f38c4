"""The outer half of the pytest plugin: starts the engine and reports the evidence."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from twlab import loop
from twlab.engines import choose, use_kernel
from twlab.errors import CapabilityError, LabError, UsageError
from twlab.pytest_plugin.naming import NUMBERS, parts, word
from twlab.report.ladder import ladder
from twlab.report.ladder import text as ladder_text
from twlab.report.text.story import story
from twlab.results.evidence import ArmEvidence
from twlab.results.files import cannot_write, write_all
from twlab.results.folder import new_folder
from twlab.results.result import ArmPrediction, ArmResult, Result
from twlab.run.provenance import describe_network, versions
from twlab.run.runner import AGENT, Order, run
from twlab.run.worlds import find_world
from twlab.scenario import Scenario, Verdict
from twlab.world import PINNED

if TYPE_CHECKING:
    from twlab.engines.protocol import Engine

REAL_LIMIT_S = 300.0  # for one test
_WIDTH = 140  # columns of a ladder in a report


class NotSupportedError(Exception):
    """A scenario was refuted or inconclusive. The text is its story."""


def run_scenario(item: pytest.Item, scenario: Scenario) -> None:
    """Run a scenario with all its arms.

    Raises:
        NotSupportedError: it is not SUPPORTED.
        LabError: it could not be run.
    """
    options = item.config.option
    source = f"{item.path}:{scenario.name}"
    with _workplace(item.config) as place:
        order = Order(
            [(source, scenario)],
            seed=options.twlab_seed,
            out=place,
            real_limit_s=REAL_LIMIT_S,
            kernel=options.twlab_kernel,
            world=options.twlab_defaults,
        )
        (finished,) = run(order, _engine(item.config))
        result = finished.result
        supported = result.verdict is Verdict.SUPPORTED
        kept = finished.folder
        try:
            kept = _keep(item, kept, result, failed=not supported, properties=item.user_properties)
            evidence = f"kept in {kept}"
        except CapabilityError as error:
            if supported:
                raise
            evidence = f"not kept: {error}"
        if not supported:
            told = [_told(kept, name, arm) for name, arm in result.arms.items() if not arm.ok]
            raise NotSupportedError(
                "\n\n".join([f"{result.scenario}: {result.verdict}\n{result.hypothesis}", *told, evidence])
            )


def run_inside(item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    """Run a test in the engine and return its reports.

    A failed test's reports have the story and the ladder of its labs. Where there is no room for
    the test, its one report says so.
    """
    try:
        reports = _run_inside(item)
    except OSError as error:
        reports = [_failed(item, "setup", f"no room for a lab: {error}\n  remedy: see twlab doctor")]
    return reports + _torn_down(item, nextitem)


def _run_inside(item: pytest.Item) -> list[pytest.TestReport]:
    with _workplace(item.config) as place:
        folder = place / "run"
        folder.mkdir()
        outcome = _Outcome(item)
        try:
            engine = _engine(item.config, "twlab.pytest_plugin.agent")
            outcome.engine = engine.name
            engine.run(_request(item, folder), folder, outcome.on_event, REAL_LIMIT_S)
        except LabError as error:
            outcome.fault(str(error))
        for leftover in ("cache", "tmp"):
            shutil.rmtree(folder / leftover, ignore_errors=True)
        reports = outcome.complete()
        if outcome.engine and (outcome.arms or outcome.faults):
            result = _record(item, outcome, failed=any(report.failed for report in reports))
            kept = folder
            try:
                result.write(folder)
                kept = _keep(
                    item,
                    folder,
                    result,
                    failed=result.verdict is not Verdict.SUPPORTED,
                    properties=reports[-1].user_properties,
                )
            except LabError as error:
                _illustrate(reports, folder, result, why_not=str(error))
                if not any(report.failed for report in reports):
                    reports.append(_failed(item, "teardown", str(error)))
            else:
                _illustrate(reports, kept, result)
            for report in reports:
                if isinstance(report.longrepr, str):  # a fault, which may name a file that has been moved
                    report.longrepr = report.longrepr.replace(str(folder), str(kept))
        return reports


def _failed(item: pytest.Item, when: Literal["setup", "call", "teardown"], text: str) -> pytest.TestReport:
    """Return the report of a part of a test that failed with `text`."""
    return pytest.TestReport(item.nodeid, item.location, dict.fromkeys(item.keywords, 1), "failed", text, when)


def _engine(config: pytest.Config, agent: str = AGENT) -> Engine:
    """Return the engine that the options name. Raises LabError."""
    use_kernel(config.option.twlab_kernel, config.option.twlab_engine)
    return choose(config.option.twlab_engine, agent=agent)


def _torn_down(item: pytest.Item, nextitem: pytest.Item | None) -> list[pytest.TestReport]:
    """Tear down what earlier tests have set up and `nextitem` does not need.

    Returns a report if that fails, else an empty list.
    """
    call = pytest.CallInfo.from_call(lambda: item.session._setupstate.teardown_exact(nextitem), "teardown")
    return [item.ihook.pytest_runtest_makereport(item=item, call=call)] if call.excinfo else []


@dataclass
class _Outcome:
    """The events of the engine, gathered for one test."""

    item: pytest.Item
    reports: list[pytest.TestReport] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    arms: dict[str, ArmResult] = field(default_factory=dict)
    engine: str = ""
    kernel: str = ""
    topology: str = ""
    since_s: float = field(default_factory=loop.monotonic_s)

    def on_event(self, event: dict[str, Any]) -> None:
        config = self.item.config
        if event["event"] == "report":
            report = config.hook.pytest_report_from_serializable(config=config, data=_tuples(event["report"]))
            now_s = loop.monotonic_s()
            # How long it took here; in virtual time a minute may have passed in it.
            report.duration, self.since_s = now_s - self.since_s, now_s
            self.reports.append(report)
        elif event["event"] == "fault":
            self.fault(event["text"])
        elif event["event"] == "arm":
            prediction = ArmPrediction("treatment", event["predicted"])
            self.arms[event["name"]] = ArmResult.of(prediction, ArmEvidence(**event["result"]))
            self.kernel = event["kernel"]
            self.topology = self.topology or event["topology"]

    def fault(self, text: str) -> None:
        self.faults.append(text)

    def complete(self) -> list[pytest.TestReport]:
        """Return the reports, and one more if the test did not run to its end."""
        done = {report.when for report in self.reports}
        if not self.faults and "teardown" not in done:
            self.fault("the engine ended before the test did")
        if self.faults:
            when: Literal["setup", "call", "teardown"] = (
                "setup" if "setup" not in done else "call" if "call" not in done else "teardown"
            )
            self.reports = [report for report in self.reports if report.when != when]
            self.reports.append(_failed(self.item, when, "\n".join(self.faults)))
        return self.reports


def _tuples(data: dict[str, Any]) -> dict[str, Any]:
    """Turn lists of JSON back into the tuples that a report has."""
    data["location"] = tuple(data["location"])
    if isinstance(data["longrepr"], list):
        data["longrepr"] = tuple(data["longrepr"])
    for name in ("sections", "user_properties"):
        data[name] = [tuple(pair) for pair in data[name]]
    return data


def _request(item: pytest.Item, folder: Path) -> dict[str, Any]:
    config = item.config
    inside = {"cacheprovider": f"cache_dir={folder / 'cache'}", "faulthandler": "faulthandler_timeout=0"}
    environment = {
        name: value for name, value in os.environ.items() if name.startswith("PYTEST_") and "XDIST" not in name
    }
    return {
        "arguments": [
            *(
                word
                for plugin, value in inside.items()
                if config.pluginmanager.hasplugin(plugin)
                for word in ("-o", value)
            ),
            *(str(argument) for argument in config.invocation_params.args),
        ],
        "cwd": str(config.invocation_params.dir),
        "path": [path for path in sys.path if isinstance(path, str)],
        "environment": environment,
        "file": str(item.path),
        "nodeid": item.nodeid,
        "folder": str(folder),
        "seed": config.option.twlab_seed,
        "world": find_world(config.option.twlab_defaults).as_dict(),
    }


def _record(item: pytest.Item, outcome: _Outcome, *, failed: bool) -> Result:
    """Return the record of a test in the form of a scenario's.

    Each of its labs is an arm. Each arm has the test's outcome.
    """
    doc = getattr(getattr(item, "obj", None), "__doc__", None) or item.nodeid
    for arm in outcome.arms.values():
        arm.ok = not failed
    option = item.config.option
    world = find_world(option.twlab_defaults)
    chosen = f" --twlab-kernel {option.twlab_kernel}" if option.twlab_kernel else ""
    chosen += f" --twlab-defaults={world.name}" if world != PINNED else ""
    return Result(
        scenario=word(item.name),
        hypothesis=" ".join(doc.partition("\n\n")[0].split()),
        reads="",
        topology=outcome.topology,
        engine=outcome.engine,
        seed=option.twlab_seed,
        command=f"pytest {item.nodeid!r} --twlab-engine {outcome.engine}{chosen} --twlab-seed {option.twlab_seed}",
        kernel=outcome.kernel,
        world=world.name,
        not_carried=dict(world.left),
        versions=versions(),
        network=describe_network(outcome.topology) if outcome.topology else {},
        arms=outcome.arms,
    )


def _keep(
    item: pytest.Item, folder: Path, result: Result, *, failed: bool, properties: list[tuple[str, object]]
) -> Path:
    """Copy the run's folder and its captures to where the options want them.

    Returns where the folder is then.

    Raises:
        CapabilityError: they cannot be written there (``cannot-write``).
    """
    options = item.config.option
    base = item.config.invocation_params.dir
    captures = _copy_captures(item, folder, result, base / options.twlab_pcap) if options.twlab_pcap else []
    if not failed and not options.twlab_keep:
        properties.extend(("twlab_capture", str(capture)) for capture in captures)
    else:
        with _of_option("--twlab-out"):
            kept = new_folder(base / options.twlab_out, result.scenario)
            try:
                shutil.copytree(folder, kept, dirs_exist_ok=True)
            except (OSError, shutil.Error) as error:
                shutil.rmtree(kept, ignore_errors=True)
                raise cannot_write(kept.parent, error) from error
        folder = kept
        properties.append(("twlab_run", str(kept)))
        properties.extend(("twlab_capture", str(kept / arm.capture)) for arm in result.arms.values() if arm.capture)
    return folder


def _copy_captures(item: pytest.Item, folder: Path, result: Result, target: Path) -> list[Path]:
    """Copy the capture of each arm to ``<test>-<arm>.pcapng`` in `target`; return the copies.

    An arm's name repeats the test's parameters, which stand in the test's name, too. The file's
    name has them once. Of tests whose names differ in other signs only, the second and later ones
    have their number behind it.
    """
    test, parameters = parts(item.nodeid)
    number = item.config.stash[NUMBERS].get(item.nodeid, 1)
    more = f"~{number}" if number > 1 else ""
    copies = {}
    for name, arm in result.arms.items():
        if arm.capture and (folder / arm.capture).exists():
            ours = parameters and (name == parameters or name.startswith(f"{parameters}-"))
            words = [test, *([] if ours or not parameters else [parameters]), word(name)]
            copies[target / f"{'-'.join(words)}{more}.pcapng"] = (folder / arm.capture).read_bytes()
    with _of_option("--twlab-pcap"):
        write_all(copies)
    return list(copies)


@contextmanager
def _of_option(option: str) -> Iterator[None]:
    """Have the remedy of what cannot be written name the plugin's `option`."""
    try:
        yield
    except CapabilityError as error:
        remedy = f"name another folder with {option}, or make room in this one"
        raise CapabilityError(error.message, remedy, error.slug) from error


def _illustrate(reports: list[pytest.TestReport], folder: Path, result: Result, *, why_not: str = "") -> None:
    """Add to the first failed report each lab's story and its ladder.

    It also says where the evidence is, or why it is not kept.
    """
    for report in reports:
        if report.failed:
            report.sections += [(f"twlab {name}", _told(folder, name, arm)) for name, arm in result.arms.items()]
            report.sections.append(
                ("twlab evidence", f"not kept: {why_not}" if why_not else f"{folder}\ntwlab show {folder}")
            )
            return


def _told(folder: Path, name: str, arm: ArmResult) -> str:
    lines = list(story(name, arm))
    try:
        lines += ["", ladder_text.draw(ladder.read(folder, name), _WIDTH)]
    except UsageError as error:
        lines.append(f"no ladder: {error}")
    return "\n".join(lines)


@contextmanager
def _workplace(config: pytest.Config) -> Iterator[Path]:
    """Make a folder for one test, and remove it afterwards.

    It is among pytest's own temporary folders, so that even one that a killed pytest leaves is
    removed in time.
    """
    place = config._tmp_path_factory.mktemp("twlab")  # type: ignore[attr-defined]
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
