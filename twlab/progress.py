"""What is happening, on standard error: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.status import Status


class Progress:
    """Follows a run's events (see `twlab.inside`)."""

    def __init__(self, console: Console):
        self._console = console
        self._live = console.is_terminal and not console.is_dumb_terminal and "CI" not in os.environ
        self._status = Status("starting", console=console)

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
            self._say(where)
        elif event["event"] == "entry":
            text = f"{where}  {event['at_s']:8.3f} s  {event.get('node', '')} {event['text']}"
            if self._live:
                self._status.update(text.replace("[", "\\["))
            elif event["kind"] == "step":
                self._console.print(text, markup=False)
        elif event["event"] == "fault":
            self._console.print(event["text"], markup=False)
        elif event["event"] == "arm":
            outcome = {True: "as predicted", False: "NOT as predicted", None: "could not be carried out"}[event["ok"]]
            self._console.print(f"{where}: {outcome}", markup=False)

    def _say(self, text: str) -> None:
        if self._live:
            self._status.update(text.replace("[", "\\["))


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
