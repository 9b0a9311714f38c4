"""The command `twlab new`."""

from __future__ import annotations

from typing import Annotated

import typer

from twlab.commands.console import out


def new(
    name: Annotated[
        str, typer.Argument(help="What it shall be called, e.g. late-reset; a folder may stand before it.")
    ],
    topology: Annotated[str, typer.Option(help="Its network: a name with options, or the path of a file.")] = "pair",
) -> None:
    """Write NAME.py, a scenario file that runs as it is and says what to change."""
    from twlab.commands import scenario_template

    path = scenario_template.write(name, topology)
    out.print(f"{path}\n\nrun it:  twlab run {path}", markup=False)
