"""run --repeat"""

from __future__ import annotations

import json

import typer
from rich.table import Table

from twlab.commands.console import err, kept, out
from twlab.commands.progress import bar
from twlab.engines.protocol import Engine
from twlab.run import repeat as repeating
from twlab.run.runner import Order
from twlab.scenario import Verdict


def repeat(order: Order, engine: Engine, times: int, as_json: bool) -> None:
    """Run `order` `times` times, and print how often each verdict came. Exits with 1 unless all
    were SUPPORTED.
    """
    with bar(err, f"{times} times") as advance:

        def on_round(number: int) -> None:
            advance(number / times, f"{number} done")

        tallies = repeating.repeat(order, engine, times, lambda event: None, on_round)
    kept.extend(folder for tally in tallies for folder in tally.kept)
    if as_json:
        print(json.dumps([tally.as_dict() for tally in tallies], indent=1))
    else:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("scenario", *Verdict, "kept"):
            table.add_column(column, overflow="fold")
        for tally in tallies:
            table.add_row(
                tally.scenario,
                *(str(tally.verdicts[verdict] or "") for verdict in Verdict),
                "\n".join(map(str, tally.kept)),
            )
        out.print(table, soft_wrap=False)
    if not all(tally.steady for tally in tallies):
        raise typer.Exit(1)
