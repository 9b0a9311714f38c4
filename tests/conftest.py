"""What tests share: the sandbox that live code runs in, and what happens to a test that this
machine cannot run.

A test that needs what the machine lacks is skipped, and says by name what is missing. In continuous
integration (CI=true) nothing may be missing: a skip fails the run there.
"""

from __future__ import annotations

import inspect
import json
import os
import platform
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Generator
from functools import cache
from itertools import takewhile
from pathlib import Path
from tempfile import gettempdir
from typing import Any, Protocol

import hypothesis
import pytest

# How long an example takes is the machine's affair; no test asserts a time.
hypothesis.settings.register_profile("any-machine", deadline=None)
hypothesis.settings.load_profile("any-machine")

# A shell leaves SIGINT ignored in what it starts in the background, and every child inherits that:
# the tests of Ctrl-C would then press it in vain.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")

_UNSHARE = (
    "unshare",
    "--user",
    "--map-root-user",
    "--net",
    "--mount",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
)

_CALL = """
import importlib.util, json, os, sys
sys.path[:0] = {path!r}
from twlab.linux.processor import waited_s
from twlab.linux.syscalls import be_prompt
be_prompt()  # as a lab is
spec = importlib.util.spec_from_file_location({module!r}, {file!r})
module = importlib.util.module_from_spec(spec)
sys.modules[{module!r}] = module
spec.loader.exec_module(module)
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
for last in 0, 0, 0, 0, 1:
    before_s = waited_s()
    try:
        answer = getattr(module, {function!r})(*json.loads({arguments!r}))
    except Exception:
        if last or waited_s() - before_s < {calm_s!r}:
            raise
    else:
        if waited_s() - before_s < {calm_s!r}:
            break
answers.write(json.dumps(answer))
answers.flush()
"""


@pytest.fixture(autouse=True)
def _kernel_of_one_test() -> Generator[None, None, None]:
    """A kernel that a test has chosen is chosen for that test alone."""
    before = os.environ.get("TWLAB_KERNEL")
    yield
    if before is None:
        os.environ.pop("TWLAB_KERNEL", None)
    else:
        os.environ["TWLAB_KERNEL"] = before


class InSandbox(Protocol):
    """`in_sandbox(function, *arguments, user="")`: what the function returned."""

    def __call__(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        user: str = "",
        timeout_s: float = 300.0,
        calm_s: float = 1e9,
    ) -> Any: ...


def run_in_sandbox(
    function: Callable[..., Any],
    *arguments: Any,
    user: str = "",
    timeout_s: float = 300.0,
    calm_s: float = 1e9,
) -> Any:
    """Call `function(*arguments)` in user, network, mount and pid namespaces of its own, as root
    there, and return what it returns.

    Args:
        function: one at the top level of its module. The module is imported anew in the sandbox, by
            the same Python.
        arguments: JSON values; what is returned is one too.
        user: run as this user of the machine (only root can); empty: as the user who runs the tests.
        timeout_s: real seconds after which the sandbox is killed and the test fails.
        calm_s: for a function that measures real time. Where the processes of the sandbox have
            waited as long as this for a processor, it is called again, up to five times in all:
            what it measured was the machine.
    """
    assert function.__qualname__ == function.__name__, (
        "the sandbox imports the function by name: define it at the top level of its module"
    )
    file = inspect.getsourcefile(function)
    script = _CALL.format(
        path=[str(ROOT), str(ROOT / "tests"), str(ROOT / "tests" / "support"), str(Path(str(file)).parent)],
        module=function.__module__,
        file=file,
        function=function.__name__,
        arguments=json.dumps(arguments),
        calm_s=calm_s,
    )
    # iptables keeps its lock in /run, which belongs to the machine's root; Squids share names in
    # /dev/shm.
    mounts = "mount -t tmpfs tmpfs /dev/shm && mount -t tmpfs tmpfs /run"  # /run last: mount leaves a file there
    inside = ["sh", "-c", f'{mounts} && exec "$@"', "sh", sys.executable, "-c", script]
    finished = subprocess.run(
        [*as_user(user), *_UNSHARE, *inside], capture_output=True, text=True, timeout=timeout_s, cwd="/", check=False
    )
    assert finished.returncode == 0, (
        f"{function.__name__} failed in the sandbox with status {finished.returncode}:\n{finished.stderr}"
    )
    sys.stderr.write(finished.stderr)
    return json.loads(finished.stdout)


def as_user(user: str) -> list[str]:
    """The words that make a command run as `user`, without groups; none for the present user."""
    if not user:
        return []
    entry = pwd.getpwnam(user)
    return [
        "setpriv",
        f"--reuid={entry.pw_uid}",
        f"--regid={entry.pw_gid}",
        "--clear-groups",
        "--inh-caps=-all",
        "env",
        "HOME=/nonexistent",
    ]


def let_everyone_reach(folder: Path) -> None:
    """Open each folder above `folder`, up to the system's folder of temporary files."""
    for above in takewhile(lambda one: one != Path(gettempdir()), folder.parents):
        above.chmod(above.stat().st_mode | 0o055)


@cache
def lacks(capability: str, user: str = "") -> str:
    """Why this machine cannot run tests marked `capability` (``host``, ``guest``) as `user`; empty
    if it can.
    """
    if (
        user
        and subprocess.run(
            [*as_user(user), sys.executable, str(ROOT / "twlab" / "errors.py")], capture_output=True, check=False
        ).returncode
    ):
        return f"user {user} cannot read {ROOT}"
    if capability == "host":
        refused = subprocess.run([*as_user(user), *_UNSHARE, "true"], capture_output=True, text=True, check=False)
        return f"no namespaces here: {refused.stderr.strip()}" if refused.returncode else ""
    if platform.machine() != "x86_64":
        return f"the lab kernel is for x86-64, and this is {platform.machine()}"
    from twlab.engines import kernel

    return "" if kernel.find() else "the lab kernel has not been built: twlab kernel build"


@pytest.fixture
def in_sandbox() -> InSandbox:
    """`run_in_sandbox`; skips where the machine has no namespaces."""
    if reason := lacks("host"):
        pytest.skip(reason)
    return run_in_sandbox


@pytest.fixture
def ordinary_user() -> str:
    """Whom to run as in order not to be root: ``nobody``, or, where the tests themselves do not run
    as root, the user who runs them ("").
    """
    if os.getuid() != 0:
        return ""
    if reason := lacks("host", "nobody"):
        pytest.skip(reason)
    return "nobody"


@pytest.fixture(scope="session")
def in_the_guest(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The whole catalogue, run once for all who ask: see `whole_catalogue.InTheGuest`."""
    from whole_catalogue import InTheGuest

    if "PYTEST_XDIST_WORKER" in os.environ:  # of all workers one: another finds the folder, and fails
        (tmp_path_factory.getbasetemp().parent / "catalogue").mkdir()
    return InTheGuest(tmp_path_factory.mktemp("guest"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Tests that share a fixture stay together, with any ``--dist``."""
    from dealing import Dealing

    return Dealing(config, log)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for capability in ("host", "guest"):
        if item.get_closest_marker(capability) and (reason := lacks(capability)):
            pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which continuous integration does not accept: {report.longrepr[2]}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"a whole module skipped, which continuous integration does not accept: {report.longrepr[2]}"
    return report
