"""Carries out the runs of one boot for a comparison: an answer for each arm.

Whole scenarios leave folders with their results and captures; repetitions leave only what they
observed.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twlab.catalogue import find_scenario
from twlab.engines import choose, use_kernel
from twlab.engines.kernel.store import Kernel
from twlab.engines.pool import Answer
from twlab.engines.protocol import Event
from twlab.run import runner
from twlab.studies import driver
from twlab.studies.batch import task as batch_task
from twlab.studies.compare.columns import Column

DRIVER = "twlab.studies.compare.driver"


def whole(column: Column, sources: Sequence[str], seed: int, folder: Path) -> dict[str, Any]:
    """Return the task that runs whole scenarios, and keeps their folders in `folder`."""
    return {**_on(column), "sources": list(sources), "seed": seed, "folder": str(folder)}


def repeated(column: Column, arms: Sequence[tuple[str, str]], seed: int) -> dict[str, Any]:
    """Return the task that runs single arms, each a source and an arm's name."""
    return {**batch_task([(source, arm, ()) for source, arm in arms], seed), **_on(column)}


def _on(column: Column) -> dict[str, Any]:
    return {"engine": column.engine, "kernel": column.kernel, "name": column.name, "world": column.world}


def carry_out(task: dict[str, Any], answer: Answer) -> None:
    """Carry out a task of `whole` or `repeated`.

    The answers of `repeated` are the outcomes, in order. Those of `whole` are an outcome with its
    ``scenario`` and ``arm`` as each is done, and last ``{"folders": {scenario: name}}``.

    Raises:
        LabError: as `twlab.run.runner.run`.
    """
    use_kernel(task["kernel"], task["engine"] if task["kernel"] else "")
    if "arms" in task:
        driver.carry_out(task, answer)
        return
    folder = Path(task["folder"])
    shutil.rmtree(folder, ignore_errors=True)  # of an attempt that was interrupted
    scenarios = [(source, find_scenario(source)) for source in task["sources"]]
    order = runner.Order(
        scenarios=scenarios,
        seed=task["seed"],
        out=folder,
        kernel=task["kernel"] and (Kernel(Path(task["kernel"])).series or task["kernel"]),
        world=task["world"],
    )

    def on_event(event: Event) -> None:
        if event["event"] == "arm":
            kept = {name: event["result"].get(name) for name in driver.KEPT}
            answer({**kept, "ok": event["ok"], "kernel": event.get("kernel"), **_named(event)})

    finished = runner.run(order, choose(task["engine"], agent=runner.AGENT), on_event)
    answer({"folders": {run.result.scenario: run.folder.name for run in finished}})


def _named(event: Event) -> dict[str, str]:
    return {"scenario": event["scenario"], "arm": event["arm"]}
