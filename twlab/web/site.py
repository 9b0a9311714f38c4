"""Holds what all pages share: store, queue, scenarios, templates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from twlab.catalogue import load_scenarios
from twlab.errors import LabError, UsageError
from twlab.report.html import topology_svg
from twlab.report.html.filling import environment
from twlab.run.provenance import describe_network
from twlab.scenario import Scenario
from twlab.web import knobs, questions
from twlab.web.guard import Secret
from twlab.web.runs import QueueFull, Runs
from twlab.web.store import Asked, Store

_STYLE = re.compile(r' style="max-width:([0-9.]+)px"')
_KEY = re.compile(r"[0-9a-f]{20}")
MOST_SEED = 2**31


@dataclass
class Site:
    """The server's parts, and what its pages are made of.

    Attributes:
        kernel: what tells the lab kernel from others, for keys.
        teacher_token: what opens a class; empty: all may.
    """

    store: Store
    runs: Runs
    secret: Secret
    kernel: str
    teacher_token: str = ""

    def __post_init__(self) -> None:
        self.scenarios = load_scenarios()
        self._networks: dict[str, Markup] = {}
        self._environment = environment("twlab.web", "twlab.report.html")

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Return a page; every form in it has the visitor's token."""
        return HTMLResponse(self.render(request, template, **values), status)

    def render(self, request: Request, template: str, **values: Any) -> Markup:
        """Fill in a template."""
        shared = {"token": request.state.token, "path": request.url.path, "waiting": self.runs.waiting}
        return Markup(self._environment.get_template(template).render(**shared, **values))

    def problem(self, request: Request, error: LabError, status: int = 400) -> Response:
        """Return the page that says what was wrong, and what to do."""
        return self.page(request, "problem.html.j2", status, error=error)

    def scenario(self, name: str) -> Scenario:
        """Return the scenario that comes with twlab by that name, and no other.

        Raises:
            UsageError: there is no such scenario (``no-such-scenario``).
        """
        if name not in self.scenarios:
            message = f"there is no scenario called {name[:40]!r}"
            raise UsageError(message, "choose one of the catalogue", "no-such-scenario")
        return self.scenarios[name]

    def asked(self, scenario: Scenario, form: Mapping[str, str]) -> Asked:
        """Return the order of a scenario's form.

        Its fields are ``arm``, ``control``, ``set.KEY`` and ``seed``.

        Raises:
            UsageError: a value that cannot be.
        """
        arm = form.get("arm", "")
        if arm not in (*scenario.arms, "all"):
            raise UsageError(f"{scenario.name} has no arm called {arm[:40]!r}", "choose one of its page", "no-such-arm")
        wanted = set(scenario.arms) if arm == "all" else {arm} | ({"control"} if form.get("control") else set())
        seed = form.get("seed", "").strip() or "1"
        if not seed.isdecimal() or len(seed) > 10 or not 0 < int(seed) <= MOST_SEED:
            raise UsageError(f"seed={seed[:20]} is out of range", "a whole number from 1 on", "bad-value")
        arms = tuple(name for name in scenario.arms if name in wanted)
        return Asked(scenario.name, arms, knobs.pairs(scenario, form), int(seed))

    def key(self, asked: Asked) -> str:
        """Return the order's key."""
        return asked.key(self.scenarios[asked.scenario], self.kernel)

    def order(self, asked: Asked, visitor: str) -> str:
        """Keep an order and put it into the queue; return its key.

        Raises:
            QueueFull: the queue has no room.
        """
        key = self.key(asked)
        self.store.ask(key, asked)
        self.runs.ask(key, asked, visitor)
        return key

    def full(self, request: Request, error: QueueFull) -> Response:
        """Return the page that says how long the queue is."""
        response = self.page(request, "full.html.j2", 503, length=error.length, whose=error.whose)
        response.headers["retry-after"] = "10"
        return response

    def network(self, name: str) -> Markup:
        """Return the drawing of a scenario's network."""
        if name not in self._networks:
            found = describe_network(self.scenarios[name].topology_in())
            drawn = topology_svg.topology(found["nodes"], found["links"]) if found.get("nodes") else Markup("")
            self._networks[name] = unstyled(drawn)
        return self._networks[name]

    def questions(self, scenario: Scenario) -> list[questions.Question]:
        return questions.of(scenario)


def unstyled(markup: Markup) -> Markup:
    """Return a drawing without style attributes, which the pages' policy forbids."""
    return Markup(_STYLE.sub(r' width="\1"', str(markup)))


def to(path: str) -> RedirectResponse:
    """Return the answer to a form: go there."""
    return RedirectResponse(path, 303)


def is_key(text: str) -> bool:
    """Return whether `text` can be a key."""
    return bool(_KEY.fullmatch(text))


def static(folder: Path, *names: str) -> str:
    """Return the text of files, one after the other."""
    return "\n".join((folder / name).read_text() for name in names)
