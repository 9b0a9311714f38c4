"""The command `twlab serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twlab.commands.console import out
from twlab.errors import CapabilityError


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen at. One that others can reach makes a teacher's token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen at; 0: any that is free.")] = 8000,
    state: Annotated[
        Path | None,
        typer.Option("--state", metavar="DIR", help="Where answers and classes are kept. Default: the user's state."),
    ] = None,
    workers: Annotated[
        int, typer.Option("--jobs", min=1, max=64, help="Lab kernels kept warm, and runs side by side.")
    ] = 2,
) -> None:
    """Serve the lab to browsers: turn a knob, predict, and see the kernel answer.

    Runs until Ctrl-C. Never as root: started by root it becomes the user who called sudo, or one
    who owns nothing. Browsers choose among the scenarios and settings that there are; no code comes
    from them, and every lab kernel is confined. Needs the extra web: pip install twlab[web].
    """
    try:
        from twlab.web import server
    except ImportError as error:
        raise CapabilityError(
            f"the server needs a package that is not there: {error.name}", "pip install 'twlab[web]'", "no-web"
        ) from error
    served = server.Served(host=host, port=port, state=state, workers=workers)
    if user := server.give_up_root(state):
        out.print(f"as user {user}", markup=False)
    at = server.bind(served)
    made, site = server.make(served)
    server.try_guest(state or server.default_state())
    out.print(f"http://{served.name}:{at.getsockname()[1]}/", markup=False)
    if site.teacher_token:
        out.print(f"the teacher's token: {site.teacher_token}", markup=False)
    server.listen(at, made)
