"""A progress bar: HTML in a notebook, rich on a terminal, none elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import escape
from typing import Any

OnProgress = Callable[[float, str], None]  # takes the share done, 0 to 1, and what is being done
_FEWEST_LETTERS = 40


@contextmanager
def bar(title: str, wanted: bool | None = None) -> Iterator[OnProgress]:
    """Show a bar while the block runs; yields what moves it. It goes at the end.

    Args:
        wanted: None: where there is a notebook or a terminal to show it.
    """
    if wanted is False:
        yield lambda share, doing: None
    elif (handle := _display()) is not None:
        try:
            yield lambda share, doing: handle.update(_Html(_markup(title, share, doing)))
        finally:
            handle.update(_Html(""))
    elif wanted or sys.stderr.isatty():
        yield from _on_terminal(title)
    else:
        yield lambda share, doing: None


class _Html:
    def __init__(self, text: str):
        self._text = text

    def __repr__(self) -> str:
        return ""

    def _repr_html_(self) -> str:
        return self._text


def _display() -> Any:
    """Return the handle of a place in the notebook's output; None where there is no notebook."""
    shell = sys.modules.get("IPython")
    running = shell.get_ipython() if shell else None
    if running is None or not hasattr(running, "kernel"):
        return None
    from IPython.display import display

    return display(_Html(""), display_id=True)


def _markup(title: str, share: float, doing: str) -> str:
    return f'<progress max="1" value="{share:.4f}"></progress> {escape(title)}: {escape(doing)}'


def _on_terminal(title: str) -> Iterator[OnProgress]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=1.0)
        yield lambda share, doing: bars.update(
            task, completed=share, description=f"{title}: {doing}".ljust(_FEWEST_LETTERS)
        )
