"""What all commands share: consoles, options, and the look-up of scenarios."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperCommand

from twlab import user_file
from twlab.catalogue import find_scenario
from twlab.scenario import Scenario
from twlab.world import WORLDS

_PIPED = (
    None if sys.stdout and sys.stdout.isatty() else 160
)  # columns of a table outside a terminal, where no width is known
out = Console(highlight=False, emoji=False, soft_wrap=True, width=_PIPED)
err = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


SchedulerOption = Annotated[
    str, typer.Option(metavar="tcp://HOST:PORT", help="Of a Dask cluster, to run on its machines instead.")
]
kept: list[Path] = []  # what a command has written: named where standard output fails to say it
DefaultsOption = Annotated[
    str,
    typer.Option(
        "--defaults",
        metavar="[kernel|machine]",
        help="Start from the kernel's own sysctls instead of the pinned ones; or from this machine's.",
    ),
]
KernelOption = Annotated[
    str,
    typer.Option(
        "--kernel", metavar="SERIES|PATH", help="Which lab kernel: 7.3, or a path. Default: the newest that is built."
    ),
]


class Command(TyperCommand):
    """A command line whose ``--defaults`` may stand alone: it means the kernel's."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give ``--defaults`` the value that it has without one, and parse."""
        completed: list[str] = []
        for word, after in pairwise([*args, ""]):
            completed += [word, "kernel"] if word == "--defaults" and after not in WORLDS else [word]
        return super().parse_args(ctx, completed)


def complain(text: str) -> None:
    """Print an error on standard error."""
    err.print(f"[bold red]twlab:[/bold red] {escape(text)}")


@contextmanager
def paged() -> Iterator[None]:
    """Show what the block prints on `out` in the user's pager.

    A text that fits the terminal is printed without the pager. At a terminal, paragraphs are
    wrapped to its width. In a pipe the text is printed as it is, without escape sequences.
    """
    if not out.is_terminal:
        yield
        return
    with out.capture() as captured:
        yield
    text = captured.get()
    if text.count("\n") < out.height:
        sys.stdout.write(text)
        return
    pager = os.environ.get("PAGER", "") or "less"
    try:
        subprocess.run(shlex.split(pager), input=text, text=True, check=False, env={"LESS": "FRX", **os.environ})
    except (OSError, ValueError):
        sys.stdout.write(text)


def own_command() -> str:
    """Return the command line as a result keeps it.

    ``--scheduler`` is left out: it says where the command ran, and changes no result.
    """
    words = ["twlab"]
    given = iter(sys.argv[1:])
    for word in given:
        if word == "--scheduler":
            next(given, None)
        elif not word.startswith("--scheduler="):
            words.append(word)
    return shlex.join(words)


def find(name: str) -> tuple[str, Scenario]:
    """Return the name by which a lab kernel finds a scenario, and the scenario."""
    source = str(Path(name).resolve()) if user_file.split(name)[0] else name
    return source, find_scenario(source)


def absolute_topology(text: str) -> str:
    """Return a topology, with its options, by a name that is good in any folder."""
    place, comma, options = text.partition(",")
    return f"{Path(place).resolve()}{comma}{options}" if user_file.split(place)[0] else text
