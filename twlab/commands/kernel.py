"""The commands `twlab kernel build`, `list`, `info` and `boot`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from twlab.commands.console import KernelOption, err, out
from twlab.lab_kernel import require_processor

kernel_app = typer.Typer(
    help="The lab kernel: build it, look at it, boot it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)


@kernel_app.command("build", epilog="Example: twlab kernel build --version 6.12")
def kernel_build(
    source: Annotated[
        Path | None,
        typer.Option(
            metavar="TREE|FILE", help="An unpacked kernel tree, or the file of a source package (.deb, .tar.xz)."
        ),
    ] = None,
    version: Annotated[
        str | None,
        typer.Option(metavar="SERIES", help="Which of Debian's kernels: 7.3, 7.2, 6.12, 6.1. Default: the newest."),
    ] = None,
) -> None:
    """Build the lab kernel: user-mode Linux with sysctls for TIME_WAIT.

    The sysctls set the length of TIME_WAIT, and tcp_tw_recycle. A kernel that has been built is
    looked up, not built again. apt fetches a source package that the machine lacks; the machine's
    own sources and packages stay as they are.
    """
    from twlab.commands.progress import bar
    from twlab.engines import kernel

    require_processor()
    with bar(err, "lab kernel") as advance:
        built = kernel.provide(source, version, advance, lambda text: err.print(text, markup=False))
    out.print(str(built.path), markup=False)


@kernel_app.command("list", epilog="Example: twlab kernel list")
def kernel_list(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON array.")] = False) -> None:
    """List the lab kernels that are built, and those that could be.

    The marked one is used where no other is named.
    """
    from twlab.engines import kernel

    rows = kernel.overview()
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("", "series", "state", "version", "kernel or source"):
        table.add_column(column, overflow="fold")
    for row in rows:
        place = row["path"] or row["source"]
        table.add_row("*" if row["default"] else "", row["series"], row["state"], row["version"] or "", escape(place))
    out.print(table, soft_wrap=False)
    err.print("* is used where no other is named; build one: twlab kernel build --version SERIES", markup=False)


@kernel_app.command("info", epilog="Example: twlab kernel info --kernel 6.12")
def kernel_info(
    kernel: KernelOption = "", as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False
) -> None:
    """Describe the lab kernel: version, changes, sysctls, options, size, origin."""
    from twlab.engines import kernel as kernels
    from twlab.engines import use_kernel

    require_processor()
    use_kernel(kernel)
    facts = kernels.info()
    if as_json:
        print(json.dumps(facts, indent=1))
        return
    for key, value in facts.items():
        lines = value if isinstance(value, list) else [value]
        out.print(f"[bold]{key:10}[/bold] {escape(str(lines[0]) if lines else '')}")
        for line in lines[1:]:
            out.print(f"{'':10} {escape(str(line))}")


@kernel_app.command("boot", epilog="Example: twlab kernel boot")
def kernel_boot(kernel: KernelOption = "") -> None:
    """Open a shell inside the lab kernel, in real time."""
    from twlab.engines import use_kernel
    from twlab.engines.guest.boot_shell import shell

    require_processor()
    use_kernel(kernel)
    raise typer.Exit(shell())
