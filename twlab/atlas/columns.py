"""What the atlas measures: a function for each column, on a running program.

Each returns facts as JSON values. `twlab.atlas.table` puts them into words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from twlab.atlas import trace
from twlab.atlas.endings import Ending, endings
from twlab.atlas.origin import Manner
from twlab.atlas.station import Station, station
from twlab.atlas.subject import ORIGIN_PORT, Subject
from twlab.errors import ScenarioError
from twlab.linux import sysctl, tcp_sockets

Facts = dict[str, Any]
PORTS = (40_000, 40_009)
REQUESTS = 30
PAUSE_S = 0.15
OTHER_PORTS = (41_000, 41_999)
_BACK_WITHIN_S, _BACK_STEP_S = 90.0, 0.1
_SETTLES_S = 5.0
_HOST_IDLE_S = 20.0


class Column(NamedTuple):
    """A column of the atlas.

    Attributes:
        name: on the command line and in the files.
        heading: in the table.
        measure: (subject, seed, is the time real) to its facts.
        applies: to which subjects.
    """

    name: str
    heading: str
    measure: Callable[[Subject, str, bool], Facts]
    applies: Callable[[Subject], bool] = lambda _: True


def _bind(subject: Subject, seed: str, _real: bool) -> Facts:
    """What is called before connect(), without a source address and with one."""
    found: Facts = {}
    for key, source in (("as_it_comes", False), ("source", True)):
        if source and not subject.source:
            continue
        with station(subject, seed=seed, source=source, manner="closes") as one:
            answers = [one.ask() for _ in range(3)]
            _require(one, "200" in answers, answers)
            one.lab.sleep(0.5)
            one.stop()
            calls = trace.before_connect(one.trace(), one.place.address, one.visitor.ports)
            ports = [port for _, port in one.origin.sources]
        found[key] = " | ".join(dict.fromkeys(calls)) if calls else None
        found[f"{key}_ports"] = "connect" if all(port % 2 == 0 for port in ports) else "bind or named"
        found["seen_by"] = "system calls" if calls else "ports"
    return found


def _close(subject: Subject, seed: str, _real: bool) -> Facts:
    """Who ends the connection, for each manner of the origin."""
    found: Facts = {}
    manners: Sequence[Manner] = ("keeps", "says", "closes")
    for manner in manners:
        with station(subject, seed=seed, manner=manner) as one, one.watched() as segments:
            answer = one.ask()
            answered_s = one.lab.now_s
            one.lab.sleep(_SETTLES_S)
            _require(one, bool(one.origin.requests), [answer])
            last = (endings(segments, ORIGIN_PORT) or [Ending()])[-1]
            asks = any(request.asks for request in one.origin.requests)
        late = f" after {last.at_s - answered_s:.0f} s" if last.at_s - answered_s >= 1 else ""
        found[manner] = last.words() + late + " (asked to)" * (asks and manner == "keeps")
    return found


def _reuse(subject: Subject, seed: str, _real: bool) -> Facts:
    """Whether the next request, of another visitor, goes out on the same connection."""
    found: Facts = {}
    for method in subject.methods:
        with station(subject, seed=seed) as one:
            answers = []
            for _ in range(4):
                answers.append(one.ask(method))
                one.lab.sleep(PAUSE_S)
            _require(one, answers == ["200"] * 4, answers)
            found[method.lower()] = len({request.connection for request in one.origin.requests})
    found["requests"] = 4
    return found


def _idle(subject: Subject, seed: str, real: bool) -> Facts:
    """How long an idle connection is kept."""
    up_to_s = min(subject.idle_s, _HOST_IDLE_S) if real else subject.idle_s
    with station(subject, seed=seed) as one, one.watched() as segments:
        answer = one.ask()
        _require(one, answer == "200", [answer])
        began_s = one.lab.now_s
        until_s = began_s + up_to_s
        while one.origin.open and one.lab.now_s < until_s:
            one.lab.loop.wait_until(lambda: not one.origin.open, min(1.0, until_s - one.lab.now_s))
        one.lab.sleep(0.1)
        ended = endings(segments, ORIGIN_PORT)
        last = ended[-1] if ended else Ending()
    if not last.first:
        return {"more_than_s": up_to_s}
    return {"s": round(max(0.0, last.at_s - began_s), 1), "by": last.words()}


def _race(subject: Subject, seed: str, _real: bool) -> Facts:
    """What comes of a request on a kept connection that the origin ends meanwhile."""
    found: Facts = {}
    for method in subject.methods:
        traps: Sequence[Literal["FIN", "RST"]] = ("FIN", "RST")
        for trap in traps:
            with station(subject, seed=seed) as one:
                first = one.ask(keep=True)
                _require(one, first == "200", [first])
                one.lab.sleep(PAUSE_S)
                before = len(one.origin.requests)
                one.origin.trap = trap
                answer = one.ask(method, keep=True)
                one.lab.sleep(PAUSE_S)
                sent, sprung = len(one.origin.requests) - before, not one.origin.trap
            found[f"{method.lower()}_{trap.lower()}"] = {"answer": answer, "sent": sent, "met": sprung}
    return found


def _short(subject: Subject, seed: str, _real: bool) -> Facts:
    """Measure what is seen and fails without a free port, and for how long."""
    with _narrow(subject, seed) as one:
        answers = _ask_all(one)
        page = one.page
        failed = sum(answer != "200" for answer in answers)
        found: Facts = {"answered": REQUESTS - failed, "asked": REQUESTS, "sees": _runs(answers)}
        found["time_wait"] = sum(
            entry.remote_port == ORIGIN_PORT for entry in tcp_sockets.table(one.lab.network["proxy"])
        )
        calls = trace.failures(one.trace())
        if one.traced:
            found["calls"] = dict(Counter(calls))
            found["calls_per_failure"] = round(len(calls) / failed, 1) if failed else 0
        line = one.subject.complaint.search(one.log())
        found["says"] = line[1] if line else ""
        found["page_says"] = bool(one.subject.complaint.search(page))
        if failed:
            found["back_after_s"] = _back(one)
    return found


def _back(one: Station) -> float | None:
    """Give ports back; return the seconds until an answer; None: there was none."""
    with one.lab.network["proxy"].inside():
        sysctl.write("net.ipv4.ip_local_port_range", f"{OTHER_PORTS[0]} {OTHER_PORTS[1]}")
    began_s = one.lab.now_s
    while (at_s := one.lab.now_s - began_s) < _BACK_WITHIN_S:
        if one.ask() == "200":
            return round(at_s, 1)
        one.lab.sleep(1.0 if one.subject.runs == "once" else _BACK_STEP_S)
    return None


def _share(source: bool, tw_reuse: int) -> Callable[[Subject, str, bool], Facts]:
    def measure(subject: Subject, seed: str, _real: bool) -> Facts:
        with _narrow(subject, seed, source=source, tw_reuse=tw_reuse) as one:
            answers = _ask_all(one)
            calls = trace.failures(one.trace())
            line = one.subject.complaint.search(one.log())
        failed = [answer for answer in answers if answer != "200"]
        return {
            "answered": REQUESTS - len(failed),
            "asked": REQUESTS,
            "sees": _runs(answers),
            "calls": dict(Counter(calls)),
            "says": line[1] if line else "",
        }

    return measure


def _narrow(subject: Subject, seed: str, *, source: bool = False, tw_reuse: int = 0) -> Any:
    return station(
        subject, seed=seed, source=source, manner="says", tw_reuse=tw_reuse, port_low=PORTS[0], port_high=PORTS[1]
    )


def _ask_all(one: Station) -> list[str]:
    """Ask `REQUESTS` times, one after the other, `PAUSE_S` apart."""
    answers = []
    for _ in range(REQUESTS):
        answers.append(one.ask())
        one.lab.sleep(PAUSE_S)
    return answers


def _runs(answers: Sequence[str]) -> str:
    """``200 x10, 503 x10, 502 x10``."""
    runs: list[tuple[str, int]] = []
    for answer in answers:
        last, count = runs[-1] if runs else ("", 0)
        runs[-1 if answer == last else len(runs) :] = [(answer, count + 1 if answer == last else 1)]
    return ", ".join(f"{answer} x{count}" for answer, count in runs)


def _require(one: Station, holds: bool, answers: Sequence[str]) -> None:
    """Raise ScenarioError (``premise-failed``) unless it `holds`."""
    if not holds:
        said = " | ".join([*one.log().splitlines()[-3:], one.page.strip()[-200:]])
        raise ScenarioError(f"{one.subject.name} answered {_runs(answers)}: {said}", slug="premise-failed")


def _pools(subject: Subject) -> bool:
    """Whether it could keep a connection to the origin for a later request."""
    return not subject.relays and subject.runs != "once"


COLUMNS: tuple[Column, ...] = (
    Column("bind", "before connect()", _bind),
    Column("close", "closes first", _close),
    Column("reuse", "connections for 4 requests", _reuse, _pools),
    Column("idle", "idle limit", _idle, _pools),
    Column("race", "keep-alive race", _race, _pools),
    Column("short", "without a free port", _short),
    Column("tw-reuse", "tcp_tw_reuse=1", _share(False, 1)),
    Column("source", "source named", _share(True, 0), lambda subject: bool(subject.source)),
    Column("both", "both", _share(True, 1), lambda subject: bool(subject.source)),
)
