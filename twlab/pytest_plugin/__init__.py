"""The pytest plugin: tests with a running lab, and scenario files as tests.

    def test_a_four_tuple_in_time_wait_is_refused(lab):
        client, server = lab["client"], lab["server"]
        ...

A test that asks for `lab` (or `make_lab`) runs where the lab is: the plugin sends it, by its node
id, into the engine, where another pytest collects and runs just this test with its fixtures, and
hands its reports back (`twlab.pytest_plugin.agent`). So a test is written as any other; but what it
changes outside the lab is gone with the engine, and fixtures of a wider scope are made once for
each such test. Scenarios (`twlab.scenario`) in a test file are tests as they stand; ``pytest
mine.py`` runs those of any file.

Every pytest of the environment loads this module. So heavy modules are imported only when a test
asks for a lab.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from twlab.world import WORLDS

if TYPE_CHECKING:
    from twlab.lab.lab import Lab
    from twlab.network import Topology
    from twlab.pytest_plugin.inside import Inside
    from twlab.scenario import Arm, Scenario
    from twlab.settings import Settings

INSIDE: pytest.StashKey[Inside] = pytest.StashKey()  # what a pytest has that runs in an engine


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, all with the prefix ``--twlab-``."""
    group = parser.getgroup("twlab", "labs on TCP's TIME_WAIT")
    engines = "guest: the lab kernel, in virtual time; host: this machine's kernel. Default: guest on x86-64."
    group.addoption("--twlab-engine", default="", choices=["guest", "host"], help=engines)
    kernels = "Which lab kernel: its series, e.g. 7.3, or a path. Default: the newest that is built."
    group.addoption("--twlab-kernel", metavar="SERIES|PATH", default="", help=kernels)
    worlds = (
        "What labs start from instead of the pinned sysctls: kernel (alone, too), its own defaults; machine, those of "
        "this machine."
    )
    group.addoption("--twlab-defaults", choices=WORLDS, nargs="?", const="kernel", default="pinned", help=worlds)
    group.addoption(
        "--twlab-seed", metavar="N", type=int, default=1, help="For everything random in a lab. Default: 1."
    )
    group.addoption(
        "--twlab-out", metavar="DIR", default="runs", help="Where the folders of failed tests are kept. Default: runs."
    )
    group.addoption(
        "--twlab-keep", action="store_true", help="Keep the folders of all tests there, not only of those that failed."
    )
    group.addoption(
        "--twlab-pcap",
        metavar="DIR",
        default="",
        help="Put the capture of every lab into this folder, as <test>-<arm>.pcapng.",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and check that captures can be written if they are wanted."""
    config.addinivalue_line(
        "markers",
        "arm(name, *, on={node: {...}}, expect={...}, **settings): run the test's lab with these settings too.",
    )
    config.addinivalue_line(
        "markers", "topology(name): the network of the test's lab, with options, e.g. 'nat,clients=2'. Default: pair."
    )
    if config.option.twlab_pcap and INSIDE not in config.stash and not hasattr(config, "workerinput"):
        _check_captures(config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Number the tests whose captures would have one name, before any is deselected."""
    if config.option.twlab_pcap and INSIDE not in config.stash:
        from twlab.pytest_plugin.naming import NUMBERS, numbers

        config.stash[NUMBERS] = numbers(item.nodeid for item in items)


def _check_captures(config: pytest.Config) -> None:
    """Check before the first test that captures can be written.

    Raises:
        pytest.UsageError: they cannot.
    """
    from twlab.errors import CapabilityError
    from twlab.results.files import check_folder

    try:
        check_folder(config.invocation_params.dir / config.option.twlab_pcap)
    except CapabilityError as error:
        raise pytest.UsageError(
            f"--twlab-pcap: {error.message} [{error.slug}]\n  remedy: name another folder, or make room in this one"
        ) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of each arm, in the order in which the arms stand above it."""
    marks = list(metafunc.definition.iter_markers("arm"))[::-1]
    if not marks:
        return
    if "arm" not in metafunc.fixturenames:
        raise pytest.Collector.CollectError(
            f"{metafunc.definition.nodeid} has arms and no lab: give it the argument lab"
        )
    names = [str(mark.args[0]) if mark.args else f"arm{number}" for number, mark in enumerate(marks, 1)]
    metafunc.parametrize("arm", [_arm(mark) for mark in marks], ids=names)


@pytest.fixture
def arm() -> Arm:
    """The `twlab.Arm` that the test runs in.

    It is as the marker says. Without a marker, the arm changes nothing.
    """
    from twlab import Arm, Observation, Settings

    return Arm(Settings(), expect=Observation())


@pytest.fixture
def settings() -> Settings:
    """The settings of all labs here; those of an arm override them.

    Write a fixture of this name to change them.
    """
    from twlab import Settings

    return Settings()


@pytest.fixture
def topology(request: pytest.FixtureRequest) -> str | Topology:
    """The network of `lab`.

    It is a name with options, the path of a file, or a `twlab.network.Topology`. Write a fixture of
    this name, or use the marker, to change it.
    """
    mark = request.node.get_closest_marker("topology")
    return mark.args[0] if mark else "pair"


@pytest.fixture
def make_lab(request: pytest.FixtureRequest) -> Iterator[Callable[..., Lab]]:
    """A function that returns a running `twlab.Lab`, another one at each call.

    Its arguments: ``make_lab(topology="pair", settings=None, on=None, name="")``; `name` is the
    capture's. Each lab lasts until the test's end.
    """
    if INSIDE not in request.config.stash:
        pytest.fail(
            "a lab runs inside an engine: ask for lab or make_lab as an argument of the test itself", pytrace=False
        )
    with ExitStack() as stack:
        yield request.config.stash[INSIDE].labs(request.node, stack)


@pytest.fixture
def lab(
    make_lab: Callable[..., Lab], topology: str | Topology, settings: Settings, arm: Arm, request: pytest.FixtureRequest
) -> Lab:
    """A running `twlab.Lab`: network built, settings applied, traffic captured."""
    name = request.node.callspec.id if hasattr(request.node, "callspec") else "lab"
    return make_lab(topology, arm.settings.over(settings), on=arm.on, name=name, expect=arm.expect)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    """Run a test that asks for a lab inside the engine, where the lab is.

    With --setup-plan nothing runs, and pytest itself shows the plan.
    """
    if INSIDE in item.config.stash or item.config.option.setupplan or not _is_live(item):
        return None
    from twlab.pytest_plugin.outside import run_inside

    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in run_inside(item, nextitem):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def pytest_pycollect_makeitem(collector: pytest.Module | pytest.Class, obj: object) -> pytest.Item | None:
    """Collect a scenario as a test."""
    if f"{type(obj).__module__}.{type(obj).__qualname__}" != "twlab.scenario.Scenario":
        return None
    return ScenarioItem.from_parent(collector, name=obj.name, scenario=obj)  # type: ignore[attr-defined]


class ScenarioItem(pytest.Item):
    """A scenario, all of its arms in one boot: passes when it is SUPPORTED."""

    def __init__(self, scenario: Scenario, **more: Any):
        super().__init__(**more)
        self.scenario = scenario

    def runtest(self) -> None:
        """Run the scenario with all its arms.

        Raises:
            twlab.pytest_plugin.outside.NotSupportedError: it is not SUPPORTED.
            twlab.LabError: it could not be run.
        """
        from twlab.pytest_plugin.outside import run_scenario

        run_scenario(self, self.scenario)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], *args: Any) -> Any:
        """Return the story, or one message for an error of twlab's own."""
        from twlab.errors import LabError
        from twlab.pytest_plugin.outside import NotSupportedError

        return (
            str(excinfo.value)
            if isinstance(excinfo.value, LabError | NotSupportedError)
            else super().repr_failure(excinfo, *args)
        )

    def reportinfo(self) -> tuple[Any, int | None, str]:
        """Return where the scenario's steps stand."""
        return self.path, self.scenario.steps.__code__.co_firstlineno - 1, self.name


def _is_live(item: pytest.Item) -> bool:
    """Return whether the test asks for our lab.

    A project may have another fixture of that name.
    """
    known = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    return any(found.func.__module__ == __name__ for found in known.get("make_lab", ()))


def _arm(mark: pytest.Mark) -> Arm:
    from twlab import Arm, Observation, Settings, UsageError

    settings = dict(mark.kwargs)
    on, expect = settings.pop("on", {}), settings.pop("expect", {})
    try:
        return Arm(
            Settings(**settings),
            expect=Observation(**expect),
            on={node: Settings(**values) for node, values in on.items()},
        )
    except (TypeError, UsageError) as error:
        from twlab.settings import setting_names

        raise pytest.Collector.CollectError(
            f"arm {mark.args}: {error}\n  the settings are: {', '.join(setting_names())}"
        ) from None
