"""Command lines that pages show: parsed, and not carried out."""

from typing import Any

import typer

from twlab.cli import app


def parsed(words: list[str]) -> Any:
    """What the command line makes of `words`, short of doing it."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("twlab", list(words))
    name, inner, rest = command.resolve_command(context, list(words))
    assert inner, words
    return inner.make_context(name, rest, parent=context)
