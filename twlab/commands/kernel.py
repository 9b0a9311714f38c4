"""kernel build, kernel info, kernel boot"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from twlab.commands.console import err, out

kernel_app = typer.Typer(
    help="The lab kernel: build it, look at it, boot it.", no_args_is_help=True, rich_markup_mode=None
)


@kernel_app.command("build", epilog="Example: twlab kernel build --source ~/linux-6.12")
def kernel_build(
    source: Annotated[
        Path | None, typer.Option(help="An unpacked kernel tree. Default: the distribution's source package.")
    ] = None,
    version: Annotated[str | None, typer.Option(help="Which of the distribution's source packages, e.g. 6.12.")] = None,
) -> None:
    """Build the lab kernel: user-mode Linux with TIME_WAIT's length and tcp_tw_recycle as sysctls.
    A second build is a look-up.
    """
    from twlab.commands.progress import bar
    from twlab.engines import kernel

    with bar(err, "lab kernel") as advance:
        built = kernel.build(source=source, version=version, progress=advance)
    out.print(str(built.path))


@kernel_app.command("info", epilog="Example: twlab kernel info")
def kernel_info(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """What the lab kernel is: version, changes, sysctls, options, size, where from."""
    from twlab.engines import kernel

    facts = kernel.info()
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for key, value in facts.items():
        lines = value if isinstance(value, list) else [value]
        out.print(f"[bold]{key:10}[/bold] {escape(str(lines[0]) if lines else '')}")
        for line in lines[1:]:
            out.print(f"{'':10} {escape(str(line))}")


@kernel_app.command("boot", epilog="Example: twlab kernel boot")
def kernel_boot() -> None:
    """A shell inside the lab kernel, in real time, to look around in."""
    from twlab.engines.guest.boot_shell import shell

    raise typer.Exit(shell())
