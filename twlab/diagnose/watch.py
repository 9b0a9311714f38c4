"""Diagnoses again and again, on one screen."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.live import Live

from twlab.diagnose import live, prometheus, screen
from twlab.diagnose.diagnosis import diagnose
from twlab.loop import Loop


def watch(console: Console, every_s: float, metrics: Path | None = None, times: int | None = None) -> None:
    """Diagnose this machine every `every_s` seconds until interrupted.

    Args:
        console: where the screen is drawn; a terminal's whole screen, plain lines elsewhere.
        metrics: a file for the textfile collector, written each time.
        times: stop after so many; None: never.
    """
    loop = Loop()
    done = 0
    with Live(
        console=console, screen=console.is_terminal, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
    ) as shown:
        while times is None or done < times:
            made = diagnose(live.read(every_s, loop.sleep))
            if metrics:
                prometheus.write(made, metrics)
            if console.is_terminal:
                shown.update(screen.render(made, console.width, brief=True), refresh=True)
            else:
                console.print(screen.render(made, console.width, brief=True))
            done += 1
