"""The command `twlab symptom`."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from twlab.commands.console import out
from twlab.errors import UsageError

if TYPE_CHECKING:
    from twlab.diagnose.symptoms import Symptom

_WIDTH = 100


def symptom(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WORD ...]",
            help="What is seen: how long a connect takes (1s), an error (EADDRINUSE), a status (504), words. "
            "Default: list all.",
        ),
    ] = None,
    show_me: Annotated[
        bool, typer.Option("--show-me", help="Run, in the lab, the scenarios that show the causes.")
    ] = False,
    engine: Annotated[str, typer.Option(help="Of --show-me: guest or host, as for twlab run.")] = "",
    out_dir: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Where --show-me makes its runs' folders.")
    ] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False,
) -> None:
    """Name the causes of a slow, silent or failed connect, by its symptom.

    The likeliest comes first. For each: whose clock it is, what would tell it from the others on
    your machines, what to set, and the scenario that shows it. Nothing is read from this machine;
    `twlab diagnose` does that. Exit status: 0 causes are named; 2 none is known.
    """
    from twlab.diagnose.explained import no_such_symptom
    from twlab.diagnose.symptom_table import SYMPTOMS
    from twlab.diagnose.symptoms import find

    found = find(words or [], SYMPTOMS)
    if not found:
        raise no_such_symptom(words or [])
    if show_me and not words:
        raise UsageError(
            "--show-me needs to know what is seen", "for example: twlab symptom 1s --show-me", "missing-argument"
        )
    if as_json:
        print(json.dumps([row.as_dict() for row in found], indent=1))
    else:
        for row in found:
            show(row)
    if show_me:
        from twlab.commands.diagnose import show_in_lab

        show_in_lab(tuple(dict.fromkeys(shown for row in found for shown in row.shows)), (), engine, out_dir, as_json)


def show(row: Symptom, **more: str) -> None:
    """Print one cause; `more` are further facts about it, by name."""
    from twlab.diagnose.symptoms import plain

    width = min(out.width, _WIDTH) if out.is_terminal else _WIDTH
    out.print(textwrap.fill(f"{row.seen} ({row.name})", width), style="bold", markup=False)
    facts = [("clock", row.clock), ("tell", row.tell), ("set", row.remedy)]
    facts += [("see it", f"twlab run {words}") for words in row.shows]
    for name, text in [*more.items(), *facts]:
        lines = textwrap.wrap(plain(text), max(20, width - 10), break_on_hyphens=False, break_long_words=False)
        out.print(f"  {name:<8}" + ("\n" + " " * 10).join(lines), markup=False)
    out.print()
