"""What is happening, on standard error: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.status import Status

from twlab import loop


class Progress:
    """Follows a run's events (see `twlab.inside`).

    On a terminal: one line for the step, and beneath it what is being done, with the virtual and the real seconds since the arm began.
    Elsewhere, and where CI is set: a plain line for each step and each arm.
    """

    def __init__(self, console: Console):
        self._console = console
        self._live = console.is_terminal and not console.is_dumb_terminal and "CI" not in os.environ
        self._status = Status("starting", console=console)
        self._step = ""
        self._started_s = 0.0

    def __enter__(self) -> Progress:
        if self._live:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def on_event(self, event: dict[str, Any]) -> None:
        """Show one event."""
        where = f"{event.get('scenario', '')} {event.get('arm', '')}".strip()
        if event["event"] == "start":
            self._step, self._started_s = "", loop.monotonic_s()
            self._say(where)
        elif event["event"] == "entry":
            self._entry(where, event)
        elif event["event"] == "arm":
            outcome = {True: "as predicted", False: "NOT as predicted", None: "could not be carried out"}[event["ok"]]
            self._console.print(f"{where}: {outcome}", markup=False)

    def _entry(self, where: str, event: dict[str, Any]) -> None:
        step = event["kind"] == "step"
        if step:
            self._step = event["text"]
        if self._live:
            times = f"{event['at_s']:.3f} s virtual, {loop.monotonic_s() - self._started_s:.1f} s real"
            doing = "" if step else f"  {event.get('node', '')} {event['text']}"
            self._say(f"{where}  {self._step}\n  {times}{doing}")
        elif step:
            self._console.print(f"{where}  {event['at_s']:8.3f} s  {event['text']}", markup=False)

    def _say(self, text: str) -> None:
        if self._live:
            self._status.update(escape(text))


@contextmanager
def bar(console: Console, title: str) -> Iterator[Callable[[float, str], None]]:
    """A progress bar with an estimate. Yields a function that takes the share done (0 to 1) and what is being done."""
    if not console.is_terminal or "CI" in os.environ:
        last = ""

        def say(_: float, doing: str) -> None:
            nonlocal last
            if doing != last:
                console.print(f"{title}: {doing}", markup=False)
                last = doing

        yield say
        return
    with Bars(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bars:
        task = bars.add_task(title, total=1.0)
        yield lambda share, doing: bars.update(task, completed=share, description=f"{title}: {doing}")
