"""The agent inside an engine: runs a user's proxy configuration and its changes.

Its request is that of `twlab.own_proxy.asked.request`. Its events:

    {"event": "rejected", "output": ..., "refused": {...}}  the program's own check refuses the configuration
    {"event": "no-way", "tried": [...], "refused": {...}}   no route leads to an origin
    {"event": "begins", "route": ..., "version": ..., "made": [...], "refused": {...}, "users": [...]}
    {"event": "progress", "share": ...}        of a load, now and then
    {"event": "arm", "name": ..., "result": ...}  or with ``error``
    {"event": "end"}
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from twlab.engines.protocol import OnEvent
from twlab.errors import LabError
from twlab.own_proxy.ceiling import find_ceiling
from twlab.own_proxy.certificate import make_certificate
from twlab.own_proxy.origins import Ends
from twlab.own_proxy.reading import Route, place_of, route_of
from twlab.own_proxy.surroundings import Surroundings
from twlab.own_proxy.trial import Setup, running
from twlab.settings import Settings
from twlab.traffic.program import FAULT, find

_WORK = Path("/run/own-proxy")
_LINES, _WIDTH = 5, 500  # of a program's output: so many first lines, and last ones, that long
_IDLE = re.compile(r"Processing: |^\[NOTICE\]")  # lines that name no fault: Squid's, HAProxy's
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_CHECK_S = 60
_GOOD = "200"


def carry_out(request: dict[str, Any], emit: OnEvent) -> None:
    """Run the configuration of `request` and its changes; emits the events above."""
    _work(request, emit)
    emit({"event": "end"})


def _work(request: Mapping[str, Any], emit: OnEvent) -> None:
    _WORK.mkdir()
    around = Surroundings(_WORK)
    if request["engine"] == "host":
        around.protect()
    request = {**request, "certificate": make_certificate(request["certificate"]) if request["certificate"] else ""}
    users = _prepare(around, request)
    setup = _setup(request, request["arms"][0])
    refusal = _checked(request)
    if refusal:
        emit({"event": "rejected", "output": refusal, "refused": around.refused})
        return
    number, tried = _way_through(setup, request)
    if number is None:
        emit({"event": "no-way", "tried": tried, "refused": around.refused})
        return
    route = route_of(request["routes"][number])
    emit(
        {
            "event": "begins",
            "route": asdict(route),
            "number": number,
            "version": _version(request),
            "kernel": " ".join(os.uname()[2:5]),
            "made": around.made,
            "refused": around.refused,
            "users": users,
        }
    )
    for arm in request["arms"]:
        if arm["text"] is not None:
            around.write(request["file"], arm["text"], over=True)
        try:
            chosen = {**arm, "theory_per_s": arm["theory_per_s"][number]}
            result = _arm(_setup(request, arm), route_of(arm["routes"][number]), chosen, request, emit)
            emit({"event": "arm", "name": arm["name"], "result": result})
        except LabError as error:
            emit({"event": "arm", "name": arm["name"], "error": error.as_dict()})
        if arm["text"] is not None:
            around.write(request["file"], request["text"], over=True)


def _prepare(around: Surroundings, request: Mapping[str, Any]) -> list[str]:
    """Make what the configuration expects; return the users that were added."""
    kinds = ("folders", "outputs", "certificates", "authorities", "files")
    made = [path for kind in kinds for path in request[kind]]
    around.cover([*made, request["file"], "/etc/hosts"])
    for folder in request["folders"]:
        around.folder(folder)
    for path in request["outputs"]:
        around.output(path)
    for path in request["certificates"]:
        around.write(path, request["certificate"])
    for path in request["authorities"]:
        around.append(path, "\n".join(_CERTIFICATE.findall(request["certificate"])) + "\n")
    for path, text in request["files"].items():
        around.write(path, text)
    around.hosts(request["names"])
    if request["certificate"]:
        (_WORK / "origin.pem").write_text(request["certificate"])
    return around.users(request["users"], request["groups"])


def _setup(request: Mapping[str, Any], arm: Mapping[str, Any]) -> Setup:
    return Setup(
        program=find(request["program"], request["package"]),
        private={name: text or request["certificate"] for name, text in request["private"].items()},
        environment=request["environment"],
        arguments=tuple(arm["arguments"]),
        folder=arm["folder"],
        places=tuple(place_of(place) for place in request["places"]),
        addresses=tuple(request["addresses"]),
        names=request["names"],
        logs=tuple(request["logs"]),
        complaint=request["complaint"],
        certificate=str(_WORK / "origin.pem") if request["certificate"] else "",
        keep_alive=request["keep_alive"],
        client=request["client"],
        method=request["method"],
    )


def _checked(request: Mapping[str, Any]) -> str:
    """Return what the program says of its configuration; empty where it accepts it."""
    program = find(request["program"], request["package"])
    folder = str(Path(request["file"]).parent)
    done = _ran([program, *request["check"]], request["environment"], folder)
    if done.returncode == 0 and any(
        re.match(r"\s*cache_dir\s+(?!null)", line) for line in request["text"].splitlines()
    ):
        _ran([program, "-z", "-N", "-f", request["file"]], folder=folder)
    return _faults(done.stdout) if done.returncode else ""


def _faults(output: str) -> str:
    """Return the first and the last lines of an output that may name a fault; never nothing."""
    lines = [line[:_WIDTH] for line in output.splitlines() if line.strip() and not _IDLE.search(line)]
    if len(lines) > 2 * _LINES:
        lines[_LINES:-_LINES] = ["..."]
    return "\n".join(lines) or "it said nothing"


def _ran(
    words: list[str], environment: Mapping[str, str] | None = None, folder: str = "/"
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=_CHECK_S,
        cwd=folder,
        env={**os.environ, **(environment or {})},
    )


def _version(request: Mapping[str, Any]) -> str:
    said = _ran([find(request["program"], request["package"]), *request["version"]]).stdout
    found = re.search(r"\d+\.\d+(?:\.\d+)?", said)
    return found[0] if found else ""


def _way_through(setup: Setup, request: Mapping[str, Any]) -> tuple[int | None, list[str]]:
    """Try the routes in turn; return the first by which an origin answers, and what was tried."""
    tried: list[str] = []
    for number, values in enumerate(request["routes"]):
        route = route_of(values)
        try:
            with running(setup, route, Settings(), origin_closes=False) as trial:
                answer = trial.one(setup.method)
                if answer == _GOOD and any(origin.requests.total() for origin in trial.origins):
                    return number, tried
                from_proxy = ", which the proxy answered itself" if answer == _GOOD else ""
                tried.append(f"{route.name}: {answer}{from_proxy}")
        except LabError as error:
            tried.append(f"{route.name}: {error.message}{_why(setup)}")
    return None, tried


def _why(setup: Setup) -> str:
    """Return the line of the program's logs that says why it ended, if there is one."""
    lines = [line for text in setup.logged() for line in text.splitlines() if FAULT.search(line)]
    return f"; its log says: {lines[-1].strip()}" if lines else ""


def _arm(
    setup: Setup, route: Route, arm: Mapping[str, Any], request: Mapping[str, Any], emit: OnEvent
) -> dict[str, Any]:
    """Run one load, the search for the ceiling, and the race."""
    settings = Settings(**arm["settings"])

    def told(share: float) -> None:
        emit({"event": "progress", "share": round(share, 4)})

    closes = arm["origin_closes"]
    with running(setup, route, settings, origin_closes=closes) as trial:
        load = trial.load(rate_per_s=request["rate_per_s"], duration_s=request["duration_s"], on_progress=told)
    result: dict[str, Any] = {"load": asdict(load)}
    if arm["ceiling"] and load.in_time_wait.get("proxy"):
        result["ceiling"] = find_ceiling(
            lambda rate_per_s, duration_s: _fails(setup, route, settings, closes, rate_per_s, duration_s, told),
            theory_per_s=arm["theory_per_s"],
            most_per_s=2 * request["rate_per_s"],
            duration_s=request["hold_s"] + request["late_s"] + 1,
        )
    if arm["race"]:
        result["race"] = _races(setup, route, settings)
    return result


def _fails(
    setup: Setup,
    route: Route,
    settings: Settings,
    closes: bool,
    rate_per_s: float,
    duration_s: float,
    told: Callable[[float], object],
) -> bool:
    with running(setup, route, settings, origin_closes=closes) as trial:
        load = trial.load(rate_per_s=rate_per_s, duration_s=duration_s, until_failure=True, on_progress=told)
    return bool(load.sees)


def _races(setup: Setup, route: Route, settings: Settings) -> dict[str, Any]:
    found = {}
    with running(replace(setup, keep_alive=True), route, settings, origin_closes=False) as trial:
        for method in ("GET", "POST"):
            for ends in (Ends.FIN, Ends.RST):
                found[f"{method} {ends.value}"] = trial.race(method, ends)
    return found
