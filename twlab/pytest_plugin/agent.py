"""The agent of the pytest plugin: runs one test inside an engine.

Another pytest collects and runs the test here, where its labs are. Its reports go back.

A request: ``{"arguments": of the pytest outside, "cwd": its folder, "path": its sys.path,
"environment": {...}, "file": the test's file, "nodeid": the test, "folder": where evidence goes,
"seed": ..., "world": what labs start from}``.

Events besides ``end``: ``report`` with a report as pytest serialises it, ``fault`` with a text
where the test was not run, and ``arm`` with the name and the outcome of a lab that has ended.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _pytest.config import _prepareconfig

from twlab.pytest_plugin import INSIDE
from twlab.pytest_plugin.inside import Inside
from twlab.world import World

# Options of the outer command line that concern the outer pytest alone.
_NOT_INSIDE: dict[str, object] = {
    "numprocesses": None, "maxprocesses": None, "dist": "no", "tx": [], "looponfail": False, "usepdb": False,
    "trace": False, "xmlpath": None, "maxfail": 0, "capture": "fd", "lf": False,
    "failedfirst": False, "stepwise": False,
}  # fmt: skip


def carry_out(request: dict[str, Any], emit: Callable[[dict[str, Any]], None]) -> None:
    """Run the test."""
    os.chdir(request["cwd"])
    os.environ.update(request["environment"])
    sys.path[:] = request["path"]
    folder = Path(request["folder"])
    # pytest cannot rewrite the assertions of a plugin that is imported already, and this plugin has
    # called it. What a test leaves open in a lab ends with the lab.
    quiet = ["ignore:Module already imported:pytest.PytestAssertRewriteWarning", "ignore:unclosed:ResourceWarning"]
    config = _prepareconfig(
        ["-p", "no:terminalreporter", *request["arguments"], *(word for text in quiet for word in ("-W", text))]
    )
    for name, value in {**_NOT_INSIDE, "basetemp": str(folder / "tmp")}.items():
        if hasattr(config.option, name):
            setattr(config.option, name, value)
    config.args = [request["file"]]
    config.stash[INSIDE] = Inside(folder, request["seed"], emit, World.from_dict(request["world"]))
    config.pluginmanager.register(_Messenger(config, request["nodeid"], emit))
    config.hook.pytest_cmdline_main(config=config)
    config._ensure_unconfigure()
    emit({"event": "end"})


class _Messenger:
    """Selects the test, and sends its reports."""

    def __init__(self, config: pytest.Config, nodeid: str, emit: Callable[[dict[str, Any]], None]):
        self._config = config
        self._nodeid = nodeid
        self._emit = emit

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._config.option.setupshow = False  # it needs a terminal; and --setup-only turns it on
        items[:] = [item for item in items if item.nodeid == self._nodeid]
        if not items:
            self._emit(
                {
                    "event": "fault",
                    "text": f"{self._nodeid} is not there when its file is collected again, inside the engine",
                }
            )

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._emit({"event": "fault", "text": f"inside the engine:\n{report.longreprtext}"})

    def pytest_internalerror(self, excrepr: object) -> None:
        self._emit({"event": "fault", "text": f"inside the engine:\n{excrepr}"})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self._emit({"event": "report", "report": data})
