"""What all commands share: where they print, how they complain, how a name becomes a scenario."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from twlab.scenario import Scenario, find_scenario

_PIPED = (
    None if sys.stdout and sys.stdout.isatty() else 160
)  # columns of a table where nobody says how wide the paper is
out = Console(highlight=False, soft_wrap=True, width=_PIPED)
err = Console(stderr=True, highlight=False, soft_wrap=True)


kept: list[Path] = []  # what a command has written: named where standard output fails to say it


def complain(text: str) -> None:
    """Tell the user of an error, on standard error."""
    err.print(f"[bold red]twlab:[/bold red] {escape(text)}")


def find(name: str) -> tuple[str, Scenario]:
    """The scenario that `name` names, and the name by which a lab kernel finds it."""
    source = str(Path(name).resolve()) if name.partition(":")[0].endswith(".py") else name
    return source, find_scenario(source)
