"""The rows of a table of ceilings, and the table's files.

A row has what is measured and, beside it, the theory. A ceiling is the rate that ports and
TIME_WAIT allow an opener that closes first.
`twlab.studies.ceiling.fill` measures. ``twlab ceiling`` writes ``ceiling.json``, ``ceiling.csv``,
``ceiling.png`` and ``ceiling.svg`` into a folder (the plot from two lengths of TIME_WAIT on). The
shape of ``ceiling.json``:

    {"schema": 1, "kind": "ceiling", "kernel": "6.12.117-twlab ...", "engine": "guest",
     "command": "twlab ceiling", "seed": 1, "rows": [row, ...]}

A row stands for a `Case`. Rates are in connections a second:

    name           e.g. ``60 s, 28,232 ports``
    group          ``ports`` (TIME_WAIT against ports), ``constant`` (TIME_WAIT as Linux has it, not
                   kept to the tick), ``origins`` (1, 4, 16 destinations), ``choice`` (bind before
                   connect; the kernel's own search), ``closer`` (the server closes first)
    time_wait_s, port_low, port_high, origins, opener_closes
    ports          their number
    choice         how the port is chosen, `twlab.ports.PortChoice`
    exact_per_s    theory, which the measurement does not use: ports x origins / time_wait_s, or
                   ports / time_wait_s after bind(), since origins then do not share a port
    mail_per_s     the rate in the question that docs/findings/answers.md answers, or null
    sustained_per_s  the highest rate that was tried and at which no connect failed, once the ports
                   in use had stopped to grow; null: no such rate
    failing_per_s  the lowest rate that was tried and at which a connect failed; null: no such rate
    error          what the application sees, e.g. ``connect EADDRNOTAVAIL``; empty: nothing
    opened_before  connections opened before the first failure, at the first rate tried
    first_back_s   seconds from the first connection until the first port came back
    trials         each load that was tried, in order: {"rate_per_s", "duration_s" (asked for),
                   "attempted", "connected", "failed": {error: number}, "first_failure_s" (or null),
                   "most_in_time_wait"}. A trial ends with its first failure.
    server_in_time_wait  TIME_WAIT sockets at the other end
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from twlab.errors import UsageError
from twlab.ports import LINUX_PORTS, WIDEST_PORTS, PortChoice, usable
from twlab.results import files

SCHEMA, KIND = 1, "ceiling"
FILE = "ceiling.json"
LINUX_TIME_WAIT_S = 60.0  # include/net/tcp.h, TCP_TIMEWAIT_LEN
TIME_WAITS_S = (60.0, 30.0, 15.0, 10.0)
RANGES = (LINUX_PORTS, (LINUX_PORTS[0], WIDEST_PORTS[1]), WIDEST_PORTS)  # 28,232, 32,768 and 64,512 ports
MAIL_PER_S = {
    60.0: 500,
    30.0: 1000,
    15.0: 2000,
    10.0: 3000,
}  # "32K ports": with TIME_WAIT of so many seconds, about so many connections a second
_SMALL = (40_000, 41_999)
_FLOOD_PER_S = 20_000.0


_CHOICES = {
    PortChoice.RANGE: "",
    PortChoice.CONNECT: ", the kernel chooses",
    PortChoice.BIND: ", bind first",
    PortChoice.NO_PORT: ", bind without a port",
    PortChoice.EXPLICIT: ", named ports",
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One ceiling to be measured.

    Attributes:
        group: see the shape above.
        to_the_tick: TIME_WAIT is kept to the tick by the lab kernel's sysctl; False: the sysctl is
            not touched, and Linux's timer wheel makes of its constant what it always does.
        first_per_s: the first rate to be tried.
    """

    group: str
    time_wait_s: float
    port_low: int
    port_high: int
    origins: int = 1
    choice: PortChoice = PortChoice.RANGE
    opener_closes: bool = True
    to_the_tick: bool = True
    first_per_s: float = _FLOOD_PER_S

    @property
    def ports(self) -> int:
        """Number of ports in the range."""
        return self.port_high - self.port_low + 1

    @property
    def exact_per_s(self) -> float:
        """The rate in theory.

        Each connection keeps its port for TIME_WAIT, towards its destination; after bind() towards
        every
        one.
        """
        shared = self.choice not in (PortChoice.BIND, PortChoice.EXPLICIT)
        return usable(self.ports, self.choice) * (self.origins if shared else 1) / self.time_wait_s

    @property
    def name(self) -> str:
        """In words."""
        more = [
            f", {self.origins} origin{'s' if self.origins > 1 else ''}"
            if self.group == "origins" or self.origins > 1
            else "",
            _CHOICES[self.choice],
            ", the server closes first" if self.group == "closer" else "",
            "" if self.to_the_tick else ", Linux's own constant",
        ]
        return f"{self.time_wait_s:g} s, {self.ports:,} ports{''.join(more)}"

    def as_dict(self) -> dict[str, Any]:
        """Return the part of a row that is known beforehand; JSON values."""
        mail = MAIL_PER_S.get(self.time_wait_s) if self.first_per_s != _FLOOD_PER_S else None
        known = {name: value for name, value in asdict(self).items() if name not in ("first_per_s", "to_the_tick")}
        theory = {"ports": self.ports, "exact_per_s": round(self.exact_per_s, 1), "mail_per_s": mail}
        return {"name": self.name, **known, "choice": self.choice.value, **theory}


def cases() -> list[Case]:
    """Return the table's rows.

    The kernel's own search for a port takes time that grows with the range, so it has one row. The
    others give the range to the socket (IP_LOCAL_PORT_RANGE), whose search is short. The ceiling is
    the
    same.
    """
    first_low, first_high = RANGES[0]
    table = [
        Case(group="constant", time_wait_s=60.0, port_low=first_low, port_high=first_high, to_the_tick=False)
    ]  # what an engineer meets
    for low, high in RANGES:
        for time_wait_s in TIME_WAITS_S:
            first = float(MAIL_PER_S[time_wait_s]) if (low, high) == RANGES[0] else _FLOOD_PER_S
            table.append(Case(group="ports", time_wait_s=time_wait_s, port_low=low, port_high=high, first_per_s=first))
    table.append(
        Case(group="choice", time_wait_s=60.0, port_low=first_low, port_high=first_high, choice=PortChoice.CONNECT)
    )
    low, high = _SMALL
    small: list[dict[str, Any]] = [{"group": "choice", "choice": PortChoice.BIND}]
    small += [{"group": "origins", "origins": origins} for origins in (1, 4, 16)]
    small += [{"group": "closer", "opener_closes": False}]
    return table + [Case(time_wait_s=10.0, port_low=low, port_high=high, **case) for case in small]


def as_csv(rows: Iterable[dict[str, Any]]) -> str:
    """Return the rows as CSV, without their trials."""
    text = io.StringIO()
    flat = [{name: value for name, value in row.items() if name != "trials"} for row in rows]
    writer = csv.DictWriter(text, list(flat[0]) if flat else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return text.getvalue()


def write(folder: Path, rows: Sequence[dict[str, Any]], **about: Any) -> list[Path]:
    """Write ``ceiling.json`` and ``.csv`` into `folder`, each whole or not at all.

    Args:
        about: kernel, engine, command, seed.

    Raises:
        CapabilityError: they cannot be written (``cannot-write``).
    """
    path = folder / FILE
    text = json.dumps({"schema": SCHEMA, "kind": KIND, **about, "rows": list(rows)}, indent=1) + "\n"
    files.write_all({path: text, path.with_suffix(".csv"): as_csv(rows)})
    return [path, path.with_suffix(".csv")]


def read(path: Path) -> dict[str, Any]:
    """Read what `write` wrote.

    Raises:
        UsageError: there is no such file, or it is something else (``no-ceiling``).
    """
    try:
        values = json.loads(path.read_text())
        found = (values.get("kind"), values.get("schema"), [row["name"] for row in values["rows"]])[:2]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path} is no table of ceilings: {error}", "twlab ceiling makes one", "no-ceiling") from error
    if found != (KIND, SCHEMA):
        raise UsageError(
            f"{path} is no table of ceilings of schema {SCHEMA}: {found[0]} {found[1]}",
            "twlab ceiling makes one",
            "no-ceiling",
        )
    return dict(values)
