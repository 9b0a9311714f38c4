"""The options of `twlab proxy`, and how its texts are read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from twlab.errors import UsageError

FILES = "haproxy.cfg, nginx.conf, squid.conf, envoy.yaml or Caddyfile"

FileArgument = Annotated[Path, typer.Argument(metavar="FILE", help=f"{FILES}.")]
RateOption = Annotated[float, typer.Option(min=0.01, max=100_000, help="Requests a second.")]
DurationOption = Annotated[
    float | None, typer.Option(metavar="SECONDS", help="Of each load. Default: 1.5 times TIME_WAIT.", min=1, max=3600)
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Of the proxy's kernel, e.g. tw_reuse=1 (may be repeated)."),
]
PortsOption = Annotated[str, typer.Option(metavar="LOW-HIGH", help="ip_local_port_range of the proxy.")]
ScaleOption = Annotated[
    int | None,
    typer.Option(min=1, max=10_000, help="Divide ports and rate by it; 1: full size. Default: to some 600 ports."),
]
OriginOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=ADDRESS", help="Address of an origin's name (may be repeated). Default: of the lab's."),
]
ListenOption = Annotated[
    int,
    typer.Option(
        metavar="PORT", min=0, max=65535, help="Ask this listener. Default: the first that leads to an origin."
    ),
]
HostOption = Annotated[str, typer.Option(help="Ask for this host. Default: as the configuration suggests.")]
PathOption = Annotated[str, typer.Option(metavar="/PATH", help="Ask for this path. Default: likewise.")]
AfterOption = Annotated[Path | None, typer.Option(metavar="FILE", help="A changed configuration, to be set beside it.")]
ChangeOption = Annotated[
    list[str] | None, typer.Option(help="Run only this change (may be repeated). Default: all that are proposed.")
]
KeepAliveOption = Annotated[
    bool, typer.Option("--keep-alive", help="Clients keep their connections. Default: one for each request.")
]
ClientOption = Annotated[
    str, typer.Option(metavar="ADDRESS", help="Address of the clients, for rules that allow some only.")
]
MethodOption = Annotated[Literal["GET", "POST"], typer.Option(help="Of the requests of a load.")]
RaceOption = Annotated[bool, typer.Option("--race/--no-race", help="Run the keep-alive race, too.")]
CeilingOption = Annotated[bool, typer.Option("--ceiling/--no-ceiling", help="Search the ceiling, too.")]
ProgramOption = Annotated[str, typer.Option(help="haproxy, nginx, squid, envoy or caddy. Default: by the file.")]
EngineOption = Annotated[str, typer.Option(help="guest or host.")]
SeedOption = Annotated[int, typer.Option(help="For everything random.")]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="For the folder with the result.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print proxy.json.")]


def settings_of_ports(text: str) -> list[str]:
    """Return ``LOW-HIGH`` as KEY=VALUE texts.

    Raises:
        UsageError: it is no range (``bad-setting``).
    """
    if not text:
        return []
    low, sign, high = text.partition("-")
    if not sign or not low.isdecimal() or not high.isdecimal():
        raise UsageError(f"--ports {text} is no range of ports", "e.g. --ports 1024-65535", "bad-setting")
    return [f"port_low={low}", f"port_high={high}"]


def named_addresses(pairs: Sequence[str]) -> dict[str, str]:
    """Return ``NAME=ADDRESS`` texts as a dictionary.

    Raises:
        UsageError: one has another form (``bad-origin``).
    """
    found = {}
    for pair in pairs:
        name, sign, address = pair.partition("=")
        if not sign or not name:
            raise UsageError(
                f"--origin {pair} is not of the form NAME=ADDRESS", "e.g. --origin app=10.0.0.5", "bad-origin"
            )
        found[name] = address
    return found
