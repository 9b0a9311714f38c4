"""The atlas as a page: docs/findings/atlas.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from twlab.atlas.columns import COLUMNS, PAUSE_S, PORTS, REQUESTS, Column

_PAGE = """# The atlas: what programs do about ports and TIME_WAIT

    {command}

made this page, `atlas.json` and `atlas.csv`, with the programs as they are installed (engine
{engine}, Linux {kernel}). Every figure in it is measured. A cell alone is measured by `twlab
atlas PROGRAM --only COLUMN`, for example `twlab atlas squid --only short`; `nginx` means all whose
name begins so. [Real proxies](proxies.md) says what to set.

- **bind**: what is called on a socket before connect(), as the system calls show: NO_PORT is
  IP_BIND_ADDRESS_NO_PORT, REUSEADDR and BINDTODEVICE are SO_..., `bind(10.3.2.1:0)` takes a port
  before the destination is known, `bind(10.3.2.1:VISITORS)` the port that the visitor has. After
  `source:`, with a source address named.
- **close**: who sends FIN or RST first, with an origin that keeps its connections, one that says
  `Connection: close` and leaves the close to the program, one that closes at once. *Asked to*: the
  program's request asked the origin to close.
- **reuse**: connections to the origin for four requests of four visitors.
- **idle**: how long a connection is kept without a request.
- **race**: the answer to a request on a kept connection that the origin ends meanwhile, with FIN
  or RST. *Sent 2 times*: the program sent it again. *Own connection*: it was not sent on a kept
  one.
- **short**: {requests} requests, one each {pause_ms:g} ms, with {ports} ports and a TIME_WAIT of
  60 s: how many are answered; what is seen, in order; the calls that fail; what the program says;
  and when it answers again once there are other ports, to the second.
- **tw-reuse**, **source**, **both**: the same with tcp_tw_reuse=1, with a source address named,
  with both.

A program that only passes bytes on, or is started for each request, keeps nothing for a later
request: there the middle columns are empty. PgBouncer and psql speak PostgreSQL's protocol, with an
origin that does: a GET stands for a query, 200 for its answer, and no origin says that it will
close.
"""


def page(made: Mapping[str, Any]) -> str:
    """Return the page of ``atlas.json``."""
    columns = [column for column in COLUMNS if column.name in made["rows"][0]]
    head = _PAGE.format(
        command=made["command"],
        engine=made["engine"],
        kernel=made["kernel"].split(" ")[0] or "not booted",
        requests=REQUESTS,
        pause_ms=PAUSE_S * 1000,
        ports=PORTS[1] - PORTS[0] + 1,
    )
    missing = [f"- {row['name']}: {row['error']}" for row in made["rows"] if row["error"]]
    return "\n".join([head.rstrip("\n"), *_tables(made["rows"], columns), *(["", *missing] if missing else []), ""])


def _tables(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> Iterator[str]:
    """Yield the lines of a table for proxies, and one for clients."""
    for role, heading in (("proxy", "Proxies"), ("client", "Clients")):
        fitting = [row for row in rows if row["role"] == role]
        if not fitting:
            continue
        yield from ("", f"## {heading}", "")
        yield f"| {role} | " + " | ".join(column.name for column in columns) + " |"
        yield "| --- " * (len(columns) + 1) + "|"
        for row in fitting:
            cells = [f"{row['name']} {row['version']}", *(str(row[column.name]) for column in columns)]
            yield "| " + " | ".join(cell.replace("|", "or").strip() for cell in cells) + " |"
