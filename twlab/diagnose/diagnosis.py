"""Diagnoses a snapshot: pools, findings, the answer, advice, what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twlab.diagnose import advice, balancer_causes, bind_first, causes, machine_causes
from twlab.diagnose.advice import Advice
from twlab.diagnose.causes import FAULT, NOTE, WARNING, Finding
from twlab.diagnose.pool import Measured
from twlab.diagnose.pools import measure
from twlab.diagnose.snapshot import Namespace, Snapshot
from twlab.linux.inet_diag import LISTEN, TIME_WAIT

SCHEMA = 1
_ORDER = {FAULT: 0, WARNING: 1, NOTE: 2}
_PORTS = (
    "time-wait-fills-ports",
    "bind-before-connect",
    "neighbour-binds-first",
    "live-connections-fill-ports",
    "own-port-range",
    "time-wait-will-fill-ports",
)
_SHOWN_POOLS = 50  # in JSON; the terminal shows fewer


@dataclass(frozen=True)
class Part:
    """One namespace, diagnosed.

    Attributes:
        answer: to the question whether it is TIME_WAIT, one sentence.
        findings: the gravest first.
        missing: what was not read, and the command that shows it.
    """

    place: Namespace
    measured: Measured
    answer: str
    findings: tuple[Finding, ...]
    advice: Advice | None
    missing: tuple[tuple[str, str], ...]

    @property
    def causes(self) -> tuple[str, ...]:
        """The causes' names, each once."""
        return tuple(dict.fromkeys(finding.cause for finding in self.findings))

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        measured, place = self.measured, self.place
        return {
            "namespace": place.name,
            "answer": self.answer,
            "sources": {
                "sockets": place.socket_source,
                "settings": place.setting_source,
                "counters": place.counter_source,
            },
            "port_range": {
                "low": measured.span.low,
                "high": measured.span.high,
                "usable": measured.span.size,
                "read": place.range_known,
            },
            "settings": {name: text for name, text in place.settings.items() if "tcp" in name or "port" in name},
            "states": measured.states,
            "rates_per_s": {name: round(value, 2) for name, value in place.rates.items() if name in _RATES},
            "pools": [pool.as_dict() for pool in measured.pools[:_SHOWN_POOLS]],
            "other_pools": measured.others + max(0, len(measured.pools) - _SHOWN_POOLS),
            "accepted": [served.as_dict() for served in measured.served[:_SHOWN_POOLS]],
            "findings": [finding.as_dict() for finding in self.findings],
            "advice": self.advice.as_dict() if self.advice else None,
            "missing": [{"what": what, "command": command} for what, command in self.missing],
        }


_RATES = ("TcpActiveOpens", "TcpPassiveOpens", "TcpAttemptFails", "TW", "TWKilled", "TWRecycled", "TCPTimeWaitOverflow")


@dataclass(frozen=True)
class Diagnosis:
    """The diagnosis of a snapshot, a part for each namespace."""

    snapshot: Snapshot
    parts: tuple[Part, ...]

    @property
    def shows(self) -> tuple[str, ...]:
        """What to run in the lab, each once, the gravest finding's first."""
        found = sorted(
            (finding for part in self.parts for finding in part.findings), key=lambda finding: _ORDER[finding.weight]
        )
        return tuple(dict.fromkeys(name for finding in found for name in finding.shows))

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        snapshot = self.snapshot
        return {
            "schema": SCHEMA,
            "title": snapshot.title,
            "live": snapshot.live,
            "namespaces": [part.as_dict() for part in self.parts],
            "unseen": snapshot.unseen,
            "unread_lines": snapshot.unread,
        }


def diagnose(snapshot: Snapshot) -> Diagnosis:
    """Diagnose `snapshot`."""
    return Diagnosis(snapshot, tuple(_part(place, snapshot.live) for place in snapshot.namespaces))


def _part(place: Namespace, live: bool) -> Part:
    measured = measure(place)
    findings = sorted(
        (
            *causes.of_pools(place, measured),
            *machine_causes.of_machine(place, measured),
            *balancer_causes.of_balancers(place),
        ),
        key=lambda finding: (
            _ORDER[finding.weight],
            _PORTS.index(finding.cause) if finding.cause in _PORTS else len(_PORTS),
        ),
    )
    worst = next((pool for pool in measured.pools if pool.time_wait), None)
    given = advice.for_pool(worst, measured, place) if worst else None
    return Part(
        place,
        measured,
        _answer(place, measured, findings),
        tuple(findings),
        given,
        (*place.missing, *_missing(place, measured, live)),
    )


def _answer(place: Namespace, measured: Measured, findings: list[Finding]) -> str:
    for finding in findings:
        if finding.weight == FAULT and finding.cause in _PORTS:
            return finding.text
    warned = next((finding for finding in findings if finding.weight == WARNING and finding.cause in _PORTS), None)
    if warned:
        return f"Not yet. {warned.text}"
    if not measured.sockets:
        return "No TCP sockets were read." if not place.socket_source else "There are no TCP sockets here."
    grave = next((finding for finding in findings if finding.weight in (FAULT, WARNING)), None)
    if grave:
        return f"It is not a want of ports. {grave.text}"
    if not measured.pools:
        return "It is not TIME_WAIT: this host has opened no connection, so no ephemeral port is in use."
    fullest = measured.pools[0]
    used = f"{fullest.taken:,} of {fullest.capacity:,} ports in use"
    return f"It is not TIME_WAIT: the fullest pool, {fullest.name}, has {used}, and stays below at this rate."


def _missing(place: Namespace, measured: Measured, live: bool) -> list[tuple[str, str]]:
    """List facts that would help a reader and that the text does not have."""
    lacking: list[tuple[str, str]] = []
    sockets = place.sockets
    if not place.socket_source:
        lacking.append(("the sockets", "ss -tanoe"))
    if not place.setting_source:
        lacking.append(
            ("the settings; Linux's defaults are assumed, a range of 32768 to 60999 among them", "sysctl net.ipv4")
        )
    elif not place.range_known:
        lacking.append(("the range of ports; 32768 to 60999 is assumed", "sysctl net.ipv4.ip_local_port_range"))
    if not place.counters:
        lacking.append(("the counters", "nstat -az"))
    if live or not len(sockets):
        return lacking
    waiting = sockets.remaining_ms[sockets.state == TIME_WAIT]
    if len(waiting) and not (waiting >= 0).any():
        lacking.append(("the timers of TIME_WAIT, which date the closes", "ss -tano"))
    if not place.owners:
        lacking.append(("which processes hold the sockets", "ss -tanp, as root"))
    if not (sockets.state == LISTEN).any():
        lacking.append(("the listeners, which tell accepted connections from opened ones", "ss -tan (not ss -tn)"))
    if (
        any(pool.bind.verdict == bind_first.UNKNOWN and pool.states.get("ESTABLISHED") for pool in measured.pools[:5])
        and not (sockets.no_port >= 0).any()
    ):
        lacking.append(("which live sockets have IP_BIND_ADDRESS_NO_PORT", "ss -tan --inet-sockopt"))
    if any(pool.states.get("ESTABLISHED") for pool in measured.pools[:5]) and not (sockets.timestamps >= 0).any():
        lacking.append(("which peers use timestamps", "ss -tani"))
    return lacking
