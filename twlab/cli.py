"""The command line: names the commands and reports errors.

Every error becomes one message on standard error and an exit status.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from twlab import __version__
from twlab.commands import streams, usage
from twlab.commands.console import Command, complain, kept
from twlab.errors import NOTHING_KEPT, Interrupted, LabError

INTERRUPTED = 130
_PROGRAM = "twlab"

COMMANDS: dict[str, tuple[str, str]] = {  # the function in `twlab.commands`, and an example
    "list": ("scenarios.list_scenarios", "list"),
    "explain": ("scenarios.explain", "explain stale-data"),
    "run": ("scenarios.run", "run stale-data --arm treatment --set time_wait_s=0.5"),
    "new": ("new.new", "new late-reset --topology nat,clients=2"),
    "shell": ("shell.shell", "shell nat,clients=2 --set time_wait_s=10"),
    "show": ("results.show", "show runs/20260101-120000-stale-data --arm treatment"),
    "report": ("results.report", "report runs --open"),
    "sweep": ("sweep.sweep", "sweep stale-segment --grid time_wait_s=1,5,10 --grid delay_s=0.5,2,20 --out sweep.json"),
    "compare": ("compare.compare", "compare stale-data --kernel 6.12 --kernel 7.3"),
    "plan": ("plan.plan", "plan --rate 500 --origins 2 --delay 10"),
    "diagnose": ("diagnose.diagnose", "diagnose ss.txt nstat.txt"),
    "symptom": ("symptom.symptom", "symptom 1s"),
    "observe": ("observe.observe", "observe capture.pcap --export flows"),
    "ceiling": ("ceiling.ceiling", "ceiling --time-wait 10 --ports 1024-65535"),
    "proxy": ("proxy.proxy", "proxy haproxy.cfg --rate 800"),
    "alternatives": ("alternatives.alternatives", "alternatives tw-reuse more-sources"),
    "atlas": ("atlas.atlas", "atlas haproxy nginx --only short"),
    "grade": ("grade.grade", "grade submissions --assignment assignment.toml --out grades.json"),
    "serve": ("serve.serve", "serve"),
    "doctor": ("doctor.doctor", "doctor"),
}


class _Stop(Exception):  # noqa: N818
    """Ctrl-C in a command.

    The parser takes every KeyboardInterrupt for its own, and would print nothing.
    """


def _stoppable(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` with Ctrl-C as a `_Stop` that says what is kept."""

    @functools.wraps(command)
    def carried_out(*arguments: Any, **options: Any) -> None:
        try:
            command(*arguments, **options)
        except KeyboardInterrupt as stop:
            raise _Stop(stop.kept if isinstance(stop, Interrupted) else NOTHING_KEPT) from stop

    return carried_out


def load(name: str) -> Callable[..., None]:
    """Import the function that carries out a command."""
    module, _, function = COMMANDS[name][0].partition(".")
    found: Callable[..., None] = getattr(importlib.import_module(f"twlab.commands.{module}"), function)
    return found


class _Commands(TyperGroup):
    """The commands. Each is imported when it is used: together they take longer than most runs."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all, in the order of the help."""
        return [*COMMANDS, "help", "kernel"]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return the command with this name; None if there is no such command."""
        if cmd_name in self.commands or cmd_name not in self.list_commands(ctx):
            return super().get_command(ctx, cmd_name)
        if cmd_name == "kernel":
            made = importlib.import_module("twlab.commands.kernel").kernel_app
        else:
            made = typer.Typer(add_completion=False, rich_markup_mode=None)
            example = f"Example: {_PROGRAM} {COMMANDS[cmd_name][1]}"
            made.command(cmd_name, cls=Command, epilog=example)(_stoppable(load(cmd_name)))
        self.commands[cmd_name] = command = typer.main.get_command(made)
        command.name = cmd_name
        return command


app = typer.Typer(
    cls=_Commands,
    help="Experiments on TCP's TIME_WAIT, on real Linux TCP stacks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"{_PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def _whole(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """Experiments on TCP's TIME_WAIT, on real Linux TCP stacks."""


@app.command("help", epilog="Example: twlab help kernel build")
def help_(
    command: Annotated[list[str] | None, typer.Argument(help="A command, e.g. run; default: all of them.")] = None,
) -> None:
    """Show the help of a command."""
    app([*(command or []), "--help"], standalone_mode=False, prog_name=_PROGRAM)


def main() -> None:
    """Run the command line and exit with its status.

    Every error becomes one message and an exit status, never a traceback.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start threads that no command needs
    status = _status_of(_carry_out)
    streams.discard()
    sys.exit(status)


def _carry_out() -> int:
    streams.prepare()
    if sys.argv[1:2] and sys.argv[1] in COMMANDS:
        usage.check_numbers(load(sys.argv[1]), sys.argv[1:])
    status = app(standalone_mode=False, prog_name=_PROGRAM)
    streams.finish()
    if status == INTERRUPTED:
        raise _Stop(NOTHING_KEPT)
    return status if isinstance(status, int) else 0


def _status_of(work: Callable[[], int]) -> int:
    """Return the exit status of `work`, and print the error that it raises."""
    try:
        return work()
    except LabError as error:
        complain(str(error))
        if error.slug == "no-output":
            for place in kept:
                complain(f"kept in {place}")
        return error.exit_status
    except _Stop as stop:
        complain(f"interrupted; {stop}")
        return INTERRUPTED
    except (KeyboardInterrupt, typer.Abort):
        complain(f"interrupted; {NOTHING_KEPT}")
        return INTERRUPTED
    except Exception as error:
        return _unexpected(error)


def _unexpected(error: Any) -> int:
    if usage.is_help(error):
        print(error.format_message(), file=sys.stderr)
        return 2
    if hasattr(error, "format_message"):  # the parser's own: an unknown option, a missing argument
        wrong = usage.as_usage_error(error, " ".join([_PROGRAM, *(word for word in sys.argv[1:2] if word in COMMANDS)]))
        complain(str(wrong))
        return wrong.exit_status
    complain(
        f"{type(error).__name__}: {error} [internal-error]\n"
        "  remedy: this is a fault of twlab; set TWLAB_DEBUG=1 for the details and report it"
    )
    if os.environ.get("TWLAB_DEBUG"):
        raise error
    return 1


if __name__ == "__main__":
    main()
