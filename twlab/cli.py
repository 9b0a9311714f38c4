"""The command line: names the commands, and turns every error into one message and an exit status."""

from __future__ import annotations

import os
import signal
import sys

import typer

from twlab.commands import alternatives, ceiling, grade, machine, new, plan, results, scenarios, shell, sweep
from twlab.commands.console import complain
from twlab.errors import LabError

INTERRUPTED = 130

app = typer.Typer(
    help="Experiments on TCP's TIME_WAIT, on real Linux TCP stacks.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("list", epilog="Example: twlab list")(scenarios.list_scenarios)
app.command("explain", epilog="Example: twlab explain stale-data")(scenarios.explain)
app.command("run", epilog="Example: twlab run stale-data --arm treatment --set time_wait_s=0.5")(scenarios.run)
app.command("new", epilog="Example: twlab new late-reset --topology nat,clients=2")(new.new)
app.command("shell", epilog="Example: twlab shell nat,clients=2 --set time_wait_s=10")(shell.shell)
app.command("show", epilog="Example: twlab show runs/20260101-120000-stale-data --arm treatment")(results.show)
app.command("report", epilog="Example: twlab report runs --open")(results.report)
app.command(
    "sweep",
    epilog="Example: twlab sweep stale-segment --grid time_wait_s=1,5,10 --grid delay_s=0.5,2,20 --out sweep.json",
)(sweep.sweep)
app.command("plan", epilog="Example: twlab plan --rate 500 --origins 2 --delay 10")(plan.plan)
app.command("ceiling", epilog="Example: twlab ceiling --time-wait 10 --ports 1024-65535")(ceiling.ceiling)
app.command("alternatives", epilog="Example: twlab alternatives tw-reuse more-sources")(alternatives.alternatives)
app.command("grade", epilog="Example: twlab grade submissions --assignment assignment.toml --out grades.json")(
    grade.grade
)
app.command("doctor", epilog="Example: twlab doctor")(machine.doctor)
app.add_typer(machine.kernel_app, name="kernel")


def main() -> None:
    """Entry point: every error becomes one message and an exit status, never a traceback."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        status = app(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except LabError as error:
        complain(str(error))
        sys.exit(error.exit_status)
    except KeyboardInterrupt:
        complain("interrupted; what was finished is kept")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output went away, as in `twlab list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except typer.Abort:
        sys.exit(INTERRUPTED)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own: an unknown option, a missing argument
            complain(f"{error.format_message()}\n  remedy: see twlab --help")
            sys.exit(2)
        complain(
            f"{type(error).__name__}: {error} [internal-error]\n  remedy: this is a fault of twlab; set TWLAB_DEBUG=1 for the details and report it"
        )
        if os.environ.get("TWLAB_DEBUG"):
            raise
        sys.exit(1)


if __name__ == "__main__":
    main()
