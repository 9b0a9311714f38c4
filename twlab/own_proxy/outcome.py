"""Runs what was ordered on an engine, and writes the result.

``twlab proxy`` writes ``proxy.json`` into a folder of its own, and every changed configuration that
was run beside it. The shape of ``proxy.json``:

    {"schema": 1, "kind": "proxy", "program", "version", "configuration", "digest", "engine",
     "kernel", "seed", "command", "scale", "method", "rate_per_s", "duration_s", "ports", "time_wait_s",
     "route": {...}, "absent": [{"what", "way_round"}], "made": [path], "refused": {path: reason},
     "names": {name: address}, "arms": [arm, ...]}

Rates and ports are those that were asked for; `scale` says by what both were divided in the lab. An
arm has ``name``, ``what``, ``diff`` (lines), ``settings``, ``origin_closes``, ``theory_per_s`` and,
as measured in the lab, ``load``, ``ceiling`` and ``race`` (`twlab.own_proxy.agent`), or ``error``.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from twlab.engines import choose
from twlab.engines.protocol import Engine, Event
from twlab.errors import CapabilityError, UsageError
from twlab.lab_kernel import or_guest
from twlab.own_proxy.asked import request
from twlab.own_proxy.order import Order, Prepared
from twlab.own_proxy.reading import Change
from twlab.results import files
from twlab.results.folder import new_folder

AGENT = "twlab.own_proxy.agent"
SCHEMA, KIND, FILE = 1, "proxy", "proxy.json"
_REAL_LIMIT_S = 3600.0
_REFUSALS = {
    r": 40[17]$": "the lab's clients have no password: take the rule that asks for one out of a copy",
    r": 403$": "where a rule admits some clients only: --client ADDRESS",
    r"Cannot raise FD limit": or_guest("have this machine allow more open files (ulimit -Hn)"),
}


def engine_for(name: str) -> Engine:
    """Return the engine called `name`, see `twlab.engines.choose`.

    Raises:
        CapabilityError: the host engine was asked for by an ordinary user (``needs-root``).
    """
    engine = choose(name, agent=AGENT)
    if engine.name == "host":
        if os.geteuid() != 0:
            message = "on the host engine an ordinary user cannot have files of the lab in place of the machine's"
            raise CapabilityError(message, or_guest("run it as root"), "needs-root")
        return engine
    from twlab.engines.guest.engine import LARGE_TABLES, Guest

    return Guest(agent=AGENT, silence_s=_REAL_LIMIT_S, more=LARGE_TABLES)


@dataclass
class Outcome:
    """What a run has found so far; `as_dict` is proxy.json.

    Attributes:
        about: all but the arms.
        arms: by name.
        refusal: the event that says why nothing ran.
        number: of the route that was taken.
    """

    about: dict[str, Any]
    arms: dict[str, dict[str, Any]] = field(default_factory=dict)
    refusal: Event | None = None
    number: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {**self.about, "arms": list(self.arms.values())}


def run(
    order: Order, prepared: Prepared, engine: Engine, out: Path, on_event: Callable[[Event], None]
) -> tuple[Path, Outcome]:
    """Run everything; return the folder of the result, and the outcome.

    Raises:
        UsageError: the program refuses the configuration (``proxy-rejects-configuration``), or no
            origin answers through it (``no-way-through``).
        CapabilityError, EngineError: as the engine's ``run``.
    """
    folder = new_folder(out, f"proxy-{prepared.reader.name}")
    outcome = Outcome(_about(order, prepared, engine.name))
    known = {arm.change.name: arm for arm in prepared.arms}

    def heard(event: Event) -> None:
        if event["event"] in ("rejected", "no-way"):
            outcome.refusal = event
        elif event["event"] == "begins":
            outcome.number = event["number"]
            outcome.about |= {key: event[key] for key in ("route", "version", "kernel", "made", "refused")}
            outcome.about["absent"] += [
                {"what": f"user or group {name}", "way_round": "the lab has one"} for name in event["users"]
            ]
        elif event["event"] == "arm":
            arm = known[event["name"]]
            change = arm.change
            outcome.arms[change.name] = {
                **_described(prepared, change, arm.theory[outcome.number]),
                **_measured(event),
            }
            _write(folder, outcome, prepared, change)
        on_event(event)

    try:
        engine.run(request(order, prepared, engine.name), folder, heard, _REAL_LIMIT_S)
    except KeyboardInterrupt:
        if not outcome.arms:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        if not outcome.arms:
            _remove_if_empty(folder)
    if outcome.refusal:
        raise _refused(outcome.refusal, prepared)
    return folder, outcome


def _about(order: Order, prepared: Prepared, engine: str) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "kind": KIND,
        "program": prepared.reader.name,
        "configuration": str(order.path),
        "digest": hashlib.sha256(prepared.text.encode()).hexdigest()[:12],
        "engine": engine,
        "seed": order.seed,
        "command": order.command,
        "scale": order.divided_by,
        "method": order.method,
        "rate_per_s": order.rate_per_s,
        "duration_s": order.duration_s or 1.5 * order.hold_s,
        "ports": order.count,
        "time_wait_s": order.hold_s,
        "names": prepared.names,
        "absent": [asdict(absent) for absent in prepared.reading.absent],
    }


def _described(prepared: Prepared, change: Change, theory: float) -> dict[str, Any]:
    before = (change.before or prepared.text).splitlines()
    after = (change.text or change.before or prepared.text).splitlines()
    return {
        "name": change.name,
        "what": change.what,
        "diff": list(difflib.unified_diff(before, after, n=0, lineterm=""))[2:],
        "settings": list(change.settings),
        "origin_closes": bool(change.origin_closes),
        "theory_per_s": round(theory, 1),
    }


def _measured(event: Event) -> dict[str, Any]:
    return {"error": event["error"]} if "error" in event else dict(event["result"])


def _write(folder: Path, outcome: Outcome, prepared: Prepared, change: Change) -> None:
    texts = {folder / FILE: json.dumps(outcome.as_dict(), indent=1) + "\n"}
    if change.text is not None:
        texts[folder / f"{change.name.replace(' ', '-').replace('/', '-')}.{Path(prepared.reading.file).name}"] = (
            change.text
        )
    files.write_all(dict(texts))


def _remove_if_empty(folder: Path) -> None:
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()


def _refused(refusal: Event, prepared: Prepared) -> UsageError:
    name = prepared.reader.name
    lacks = [f"{absent.what}: {absent.way_round}" for absent in prepared.reading.absent[:6]]
    lacking = "; ".join([*(f"{path}: {reason}" for path, reason in refusal["refused"].items()), *lacks])
    hint = f"the lab lacks, of what it names: {lacking}" if lacking else f"see that {name} accepts it on this machine"
    if refusal["event"] == "rejected":
        message = f"{name} does not accept {prepared.reading.file}:\n{refusal['output']}"
        return UsageError(message, hint, "proxy-rejects-configuration")
    tried = "; ".join(refusal["tried"][:6])
    remedies = [text for said, text in _REFUSALS.items() if any(re.search(said, line) for line in refusal["tried"])]
    remedy = "; ".join([*remedies, "name what is asked: --listen PORT, --host NAME, --path /PATH", hint])
    return UsageError(
        f"no request reached an origin through {prepared.reading.file} ({tried})", remedy, "no-way-through"
    )
