"""The options of `twlab plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from twlab.ports import PortChoice

RateOption = Annotated[float, typer.Option("--rate", help="New connections to the origins, a second.")]
OriginsOption = Annotated[int, typer.Option(help="Pairs of address and port that they go to.")]
SourcesOption = Annotated[int, typer.Option(help="Addresses that the proxy connects from.")]
BusiestOption = Annotated[
    float | None,
    typer.Option(metavar="SHARE", help="Share of the connections that goes to the busiest origin. Default: all alike."),
]
PortsOption = Annotated[str, typer.Option(metavar="LOW-HIGH", help="ip_local_port_range.")]
ReservedOption = Annotated[str, typer.Option(metavar="PORTS", help="ip_local_reserved_ports, e.g. 8080,9000-9100.")]
ChoiceOption = Annotated[
    PortChoice,
    typer.Option(
        help="How the proxy's port is chosen. bind: bind() to port 0 before connect(), or a kernel that shares no port."
    ),
]
NeighbourOption = Annotated[
    float,
    typer.Option(
        "--neighbour",
        metavar="RATE",
        help="Connections a second of other programs on the machine that call bind() first.",
    ),
]
NeighbourLifeOption = Annotated[
    float | None,
    typer.Option(
        "--neighbour-life",
        metavar="S",
        help="From connect to close of a neighbour's connection, s.",
        show_default="as --life",
    ),
]
TimeWaitOption = Annotated[float, typer.Option("--time-wait", help="Length of TIME_WAIT, s.")]
TwReuseOption = Annotated[int, typer.Option(help="tcp_tw_reuse: 0 off, 1 on, 2 for loopback only, as Linux comes.")]
LoopbackOption = Annotated[bool, typer.Option("--loopback", help="Proxy and origins talk over 127.0.0.0/8 or ::1.")]
HzOption = Annotated[
    int, typer.Option(help="Ticks a second of the proxy's kernel, CONFIG_HZ: how late its timers are.")
]
LifeOption = Annotated[float, typer.Option("--life", help="Of a connection, from connect to close, s.")]
KeepAliveOption = Annotated[bool, typer.Option(help="Connections could be kept for more than one request.")]
ClosesFirstOption = Annotated[str, typer.Option(help="proxy or origin: who keeps the TIME_WAIT.")]
TimestampsOption = Annotated[bool, typer.Option(help="Both ends use TCP timestamps.")]
WithoutTimestampsOption = Annotated[
    int, typer.Option("--no-timestamps-at", metavar="N", help="... but for so many of the origins.")
]
ThroughputOption = Annotated[float, typer.Option(help="Bytes a second of an open connection, one direction.")]
DelayOption = Annotated[float, typer.Option("--delay", help="Age of the oldest segment that is to do no harm, s.")]
WindowOption = Annotated[int, typer.Option(help="Receive window, bytes.")]
LateShareOption = Annotated[float, typer.Option(help="Share of connections that leave such a segment: your estimate.")]
LossShareOption = Annotated[float, typer.Option(help="Share of segments that are lost.")]
SymptomOption = Annotated[
    str,
    typer.Option(
        metavar="SEEN",
        help="What is seen, as for twlab symptom: 1s, EADDRINUSE, 504 ... Adds its causes: whose clock it is, "
        "and which of them these figures leave.",
    ),
]
OutOption = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the plan as an HTML page.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
