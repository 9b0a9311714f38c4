"""Drives the server's guests: one warm guest, one run, the next guest.

A task is ``{"kind": "warm", "folder"}`` or ``{"kind": "run", "folder", "key", "scenario", "arms",
"sets", "seed"}``. The answers to a run are events: ``start``, ``entry`` and ``arm`` as in
`twlab.engines.protocol`, with names of arms; ``ladder`` while one grows, with ``arm`` and ``svg``;
``verdict`` as soon as there is one, with ``summary``; at last ``finished``, with ``page`` and
``captures``.
"""

from __future__ import annotations

import atexit
import base64
import re
import shutil
import zlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twlab import loop
from twlab.catalogue import find_scenario
from twlab.engines.guest.engine import Guest
from twlab.engines.guest.warm import WarmGuest
from twlab.engines.pool import Answer
from twlab.engines.protocol import Event, OnEvent
from twlab.report.html.sections import Sections
from twlab.report.ladder import svg
from twlab.report.ladder.ladder import draw_up
from twlab.results.result import ArmResult
from twlab.run import runner
from twlab.run.runner import Finished, Order

SEED = 1  # of the guests that are kept warm
_MEMORY_MIB = 384
_PROCESSOR_S = 60  # of the lab kernel, and of each process in it
_REAL_S = 120.0  # of one run
_BOOT_S = 60.0
_DRAWN_FIRST_S = 0.5  # into a run: one that is over by then is drawn once, whole, after its verdict
_DRAWN_EACH_S = 0.25  # at most so often is a ladder that grows drawn
_DRAWING = 0.2  # ... and at most this share of the time: meanwhile nothing else is shown
_MOST_CAPTURE = 64 << 20  # bytes of a capture, unpacked
_KEPT = ("at_s", "kind", "text", "node")
_STYLE = re.compile(r' style="max-width:([0-9.]+)px"')
_CAPTURE = re.compile(r'href="([a-z0-9-]+\.pcapng)"')


class WarmGuests:
    """An engine whose next guest is warm before it is asked for.

    Args:
        folder: for logs; the guests do not see it.
    """

    name = "guest"

    def __init__(self, folder: Path):
        self._log = folder / "console.log"
        self._guest = Guest(agent="twlab.web.agent", memory_mib=_MEMORY_MIB, processor_s=_PROCESSOR_S)
        self._stack = ExitStack()
        self._warm: WarmGuest | None = None
        self.packed: dict[str, str] = {}  # captures by arm, as `twlab.web.agent` packs them

    @property
    def release(self) -> str:
        """The release of the lab kernel."""
        return self._guest.release

    def warm(self, seed: int = SEED) -> None:
        """Have a guest ready, with a kernel of `seed`."""
        if self._warm and self._warm.seed == seed and self._warm.alive:
            return
        self.end()
        self._warm = self._stack.enter_context(self._guest.warm(self._log, seed, _BOOT_S))

    def end(self) -> None:
        """End the guest that is there."""
        self._warm = None
        self._stack.close()

    def run(self, request: Mapping[str, Any], folder: Path, on_event: OnEvent, real_limit_s: float) -> None:
        """Carry out `request` as `twlab.engines.protocol.Engine` says.

        The guest is used up then; `end` or the next `warm` ends it.
        """
        arms = [job["arm"] for job in request["jobs"]]
        jobs = [{**job, "folder": "/run"} for job in request["jobs"]]

        def heard(event: Event) -> None:
            if event["event"] == "capture":
                self.packed[arms[event["job"]]] = event["data"]
                unpacked = zlib.decompressobj().decompress(base64.b64decode(event["data"]), _MOST_CAPTURE)
                (folder / f"{arms[event['job']]}.pcapng").write_bytes(unpacked)
            on_event(event)

        self.warm(request["seed"])
        assert self._warm
        try:
            self._warm.run({**request, "jobs": jobs}, heard, real_limit_s)
        finally:
            self._warm = None


_engines: dict[Path, WarmGuests] = {}


def carry_out(task: dict[str, Any], answer: Answer) -> None:
    """Carry out `task`; raises CapabilityError: no confined guest can run here."""
    folder = Path(task["folder"])
    if folder not in _engines:
        # The folder is this worker's alone. What a worker before it left was left by a kill -9.
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _engines[folder] = WarmGuests(folder)
        atexit.register(_engines[folder].end)
    engine = _engines[folder]
    if task["kind"] == "warm":
        engine.warm()
        return
    try:
        answer(_run(task, engine, folder, answer))
    finally:
        engine.end()
        engine.packed = {}
        shutil.rmtree(folder / "runs", ignore_errors=True)


def _run(task: dict[str, Any], engine: WarmGuests, folder: Path, answer: Answer) -> Event:
    scenario = find_scenario(task["scenario"])
    order = Order(
        scenarios=[(scenario.name, scenario)],
        arms=task["arms"],
        sets=task["sets"],
        seed=task["seed"],
        keep_control=len(task["arms"]) > 1,  # alone, it is what was chosen, with its knobs
        out=folder / "runs",
        real_limit_s=_REAL_S,
    )
    live = _Live(scenario.name, folder / "runs", answer)
    [finished] = runner.run(order, engine, live.heard)
    answer({"event": "verdict", "summary": _summary(finished)})
    return {"event": "finished", "page": _page(finished, task["key"]), "captures": engine.packed}


class _Live:
    """Shows a run that is under way: its entries, and ladders that grow."""

    def __init__(self, scenario: str, out: Path, answer: Answer):
        self._scenario = scenario
        self._out = out
        self._answer = answer
        self._began_s = loop.monotonic_s()
        self._next_s = self._began_s + _DRAWN_FIRST_S
        self._arms: dict[str, ArmResult] = {}

    def heard(self, event: Event) -> None:
        """Hand on what a browser shows of `event`."""
        arm = self._arms.setdefault(event.get("arm", ""), ArmResult(role=""))
        real_s = round(loop.monotonic_s() - self._began_s, 3)
        if event["event"] == "entry":
            entry = {name: event[name] for name in _KEPT if name in event}
            arm.transcript.append(entry)
            if entry["kind"] in ("step", "verb"):
                self._answer({"event": "entry", "arm": event["arm"], "real_s": real_s, **entry})
        elif event["event"] == "capture" and (began_s := loop.monotonic_s()) > self._next_s:
            self._draw(event["arm"], arm)
            took_s = loop.monotonic_s() - began_s
            self._next_s = loop.monotonic_s() + max(_DRAWN_EACH_S, took_s / _DRAWING)
        elif event["event"] in ("start", "arm"):
            shown = {name: event[name] for name in ("ok", "outcome") if name in event}
            self._answer({"event": event["event"], "arm": event["arm"], "real_s": real_s, **shown})

    def _draw(self, name: str, arm: ArmResult) -> None:
        captures = list(self._out.glob(f"*/{name}.pcapng"))
        if captures:
            drawn = svg.draw(draw_up(self._scenario, name, arm, captures[0]), styled=False)
            self._answer({"event": "ladder", "arm": name, "svg": drawn})


def _summary(finished: Finished) -> dict[str, Any]:
    result = finished.result
    return {
        "scenario": result.scenario,
        "verdict": str(result.verdict),
        "kernel": result.kernel.split(" ")[0],
        "command": result.command,
        "arms": {
            name: {
                "role": arm.role,
                "predicted": arm.predicted,
                "observed": arm.observed,
                "ok": arm.ok,
                "outcome": arm.outcome,
                "error": arm.error,
                "virtual_s": arm.virtual_s,
            }
            for name, arm in result.arms.items()
        },
    }


def _page(finished: Finished, key: str) -> str:
    """Return the run as the report shows it, for the server's pages.

    They allow no inline style, and know runs by their keys, not by folders of the server.
    """
    sections = Sections(finished.folder / "page.html", named=key)
    made = str(sections.run(finished.result, finished.folder, f"run-{key}"))
    made = made.replace(str(finished.folder), key)
    return _CAPTURE.sub(rf'href="/run/{key}/\1"', _STYLE.sub(r' width="\1"', made))
