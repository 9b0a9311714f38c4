"""Progress on standard error: a live display on a terminal, plain lines elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.spinner import Spinner
from rich.text import Text

from twlab import loop

_ALWAYS_S = 1e9
_A_MOMENT = 1e-9  # of the work: what does not grow is not counted


def is_live(console: Console) -> bool:
    """Return whether lines on `console` may be written over.

    The console is a terminal that can move its cursor, and ``CI`` is not set: a log of continuous
    integration keeps each line.
    """
    return console.is_terminal and not console.is_dumb_terminal and "CI" not in os.environ


class Progress:
    """Follows a run's events (see `twlab.run.agent`).

    On a terminal: the step in words; the virtual and the real seconds since the arm began, the
    packets that have crossed, the sockets in TIME_WAIT; what is being done; and with more than one
    arm to come, a bar with an estimate. Elsewhere, and where CI is set: a plain line for each step
    and each arm.

    Args:
        arms: how many are to be carried out; 0 when that is not known.
    """

    def __init__(self, console: Console, arms: int = 0):
        self._console = console
        self._spinner = Spinner("dots")
        columns = (
            TextColumn("{task.completed:g} of {task.total:g} arms"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bars = Bars(*columns, console=console)
        self._all = self._bars.add_task("arms", total=arms) if arms > 1 else None
        self._where = "starting"
        self._started_s: float | None = None
        self._forget()
        self._live = (
            Live(get_renderable=self._picture, console=console, refresh_per_second=8, transient=True)
            if is_live(console)
            else None
        )

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def on_event(self, event: dict[str, Any]) -> None:
        """Take up one event."""
        kind = event["event"]
        if kind == "start":
            self._where = f"{event.get('scenario', '')} {event.get('arm', '')}".strip()
            self._started_s = loop.monotonic_s()
            self._forget()
        elif kind == "entry":
            self._entry(event)
        elif kind == "pulse":
            self._at_s, self._packets, self._time_wait = event["at_s"], event["packets"], event["time_wait"]
        elif kind == "quiet":
            self._quiet(event)
        elif kind == "notice":
            self._console.print(event["text"], markup=False)
        elif kind == "arm":
            outcome = {
                True: "as predicted",
                False: "NOT as predicted",
                None: event.get("outcome", "could not be carried out"),
            }[event["ok"]]
            self._console.print(f"{event.get('scenario', '')} {event.get('arm', '')}: {outcome}", markup=False)
            if self._all is not None:
                self._bars.advance(self._all)

    def _entry(self, event: dict[str, Any]) -> None:
        self._at_s = event["at_s"]
        if event.get("details", {}).get("printed"):
            self._console.print(f"{self._where}  {event['at_s']:8.3f} s  {event['text']}", markup=False)
            return
        if event["kind"] != "step":
            self._doing = f"{event.get('node', '')} {event['text']}".strip()
            return
        self._step, self._doing = event["text"], ""
        if not self._live:
            where = (
                f"{event['scenario']} {event['arm']}" if "arm" in event else self._where
            )  # of several that run at a time
            self._console.print(f"{where}  {event['at_s']:8.3f} s  {event['text']}", markup=False)

    def _quiet(self, event: dict[str, Any]) -> None:
        """Report that the lab has been silent for long."""
        step = f", in the step: {self._step}" if self._step else ""
        text = f"{self._where}  nothing for {event['real_s']:g} s of real time: {event['text']}{step}"
        self._console.print(
            f"{text}\n  Ctrl-C ends it; a loop in the steps has to let time pass, e.g. with lab.sleep", markup=False
        )

    def _forget(self) -> None:
        self._step = self._doing = ""
        self._at_s, self._packets, self._time_wait = 0.0, 0, 0

    def _picture(self) -> RenderableType:
        """Return the display as it is now. The real seconds go on without an event."""
        self._spinner.update(
            text=Text.assemble((self._where, "bold"), f"  {self._step}", overflow="ellipsis", no_wrap=True)
        )
        lines: list[RenderableType] = [self._spinner]
        if self._started_s is not None:
            real_s = loop.monotonic_s() - self._started_s
            waiting = f"{self._time_wait:,} in TIME_WAIT"
            lines.append(
                Text(
                    f"  {self._at_s:.3f} s virtual, {real_s:.1f} s real, {self._packets:,} packets, {waiting}",
                    style="cyan",
                    no_wrap=True,
                )
            )
            lines.append(Text(f"  {self._doing}", style="dim", overflow="ellipsis", no_wrap=True))
        return Group(*lines, *([self._bars] if self._all is not None else []))


@contextmanager
def bar(console: Console, title: str, done: float = 0.0) -> Iterator[Callable[[float, str], None]]:
    """Show a progress bar with an estimate of the time left.

    Yields a function that takes the share done (0 to 1) and what is being done.

    Args:
        done: the share that an earlier run has done, which says nothing of the speed of this one.
    """
    if not is_live(console):
        last = ""

        def say(_: float, doing: str) -> None:
            nonlocal last
            if doing != last:
                console.print(f"{title}: {doing}", markup=False)
                last = doing

        yield say
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    # The speed of all that was done, not of the last half minute: a single result may take longer.
    with Bars(*columns, console=console, speed_estimate_period=_ALWAYS_S) as bars:
        task = bars.add_task(title, total=1.0)
        bars.update(task, completed=done + _A_MOMENT)  # the first figure: the speed counts from it on
        yield lambda share, doing: bars.update(task, completed=share, description=f"{title}: {doing}")
