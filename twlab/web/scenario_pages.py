"""The catalogue, a scenario's page, a run's page while it goes on and after it."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from twlab.errors import UsageError
from twlab.scenario import Scenario
from twlab.settings import Settings
from twlab.web import knobs, questions
from twlab.web.runs import QueueFull
from twlab.web.site import Site, is_key, to
from twlab.web.store import Asked, lasts

_GROUPS = {
    "pair": "Between two hosts",
    "campus": "Across a campus",
    "nat": "Behind NAT",
    "proxy": "Through a proxy",
    "vip": "Behind a virtual address",
}


class ScenarioPages:
    """The handlers of these pages."""

    def __init__(self, site: Site):
        self.site = site

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/", self.catalogue),
            Route("/scenario/{name}", self.scenario),
            Route("/scenario/{name}/run", self.order, methods=["POST"]),
            Route("/run/{key}", self.run),
            Route("/run/{key}/again", self.again, methods=["POST"]),
            Route("/run/{key}/events", self.events),
            Route("/run/{key}/{arm}.pcapng", self.capture),
            Route("/beside/{one}/{other}", self.beside),
        ]

    async def catalogue(self, request: Request) -> Response:
        groups: dict[str, list[Scenario]] = {}
        for scenario in self.site.scenarios.values():
            kind = scenario.topology_in().partition(",")[0]
            groups.setdefault(_GROUPS.get(kind, "Elsewhere"), []).append(scenario)
        ordered = [(title, groups[title]) for title in (*_GROUPS.values(), "Elsewhere") if title in groups]
        return self.site.page(request, "catalogue.html.j2", groups=ordered)

    async def scenario(self, request: Request) -> Response:
        scenario = self.site.scenario(request.path_params["name"])
        given = dict(request.query_params)
        arm = given.get("arm", "")
        treatment = next(name for name, role in scenario.roles.items() if role == "treatment")
        beside = given.get("beside", "")
        return self.site.page(
            request,
            "scenario.html.j2",
            scenario=scenario,
            network=self.site.network(scenario.name),
            arms=[(name, scenario.roles[name], _settings(scenario, name)) for name in scenario.arms],
            knobs=knobs.of(scenario),
            questions=self.site.questions(scenario),
            given=given,
            arm=arm if arm in scenario.arms or arm == "all" else treatment,
            beside=beside if is_key(beside) else "",
        )

    async def order(self, request: Request) -> Response:
        scenario, form = self.site.scenario(request.path_params["name"]), request.state.form
        asked = self.site.asked(scenario, form)
        predicted = questions.answers(self.site.questions(scenario), form)
        try:
            key = self.site.order(asked, request.state.visitor)
        except QueueFull as error:
            return self.site.full(request, error)
        if predicted:
            self.site.store.predict(key, request.state.visitor, predicted)
        beside = form.get("beside", "")
        return to(f"/beside/{beside}/{key}" if is_key(beside) else f"/run/{key}")

    async def run(self, request: Request) -> Response:
        key, asked = self._asked(request.path_params["key"])
        return self.site.page(request, "run.page.html.j2", **self.shown(key, asked, request.state.visitor))

    async def again(self, request: Request) -> Response:
        """Run an order once more whose answer is no longer there, or failed."""
        _, asked = self._asked(request.path_params["key"])
        try:
            key = self.site.order(asked, request.state.visitor)  # another, if twlab has changed
        except QueueFull as error:
            return self.site.full(request, error)
        return to(f"/run/{key}")

    async def beside(self, request: Request) -> Response:
        shown = []
        for name in ("one", "other"):
            key, asked = self._asked(request.path_params[name])
            shown.append(self.shown(key, asked, request.state.visitor))
        return self.site.page(request, "beside.html.j2", shown=shown)

    async def events(self, request: Request) -> Response:
        key, asked = self._asked(request.path_params["key"])
        return self.stream(request, key, lambda summary: self.outcome(key, asked, request.state.visitor, summary))

    def stream(self, request: Request, key: str, outcome: Callable[[dict[str, Any]], dict[str, Any]]) -> Response:
        """Return a run's events as they come; the verdict as its page will show it.

        Args:
            outcome: returns what its template shows, given the run's summary.
        """

        async def lines() -> AsyncIterator[str]:
            async for event in self.site.runs.follow(key):
                if event and event["event"] == "verdict":
                    markup = self.site.render(request, "outcome.html.j2", **outcome(event["summary"]))
                    event = {"event": "verdict", "markup": markup}
                yield f"data: {json.dumps(event)}\n\n" if event else ": still here\n\n"

        return StreamingResponse(lines(), media_type="text/event-stream", headers={"x-accel-buffering": "no"})

    async def capture(self, request: Request) -> Response:
        key, arm = request.path_params["key"], request.path_params["arm"]
        found = self.site.store.capture(key, arm) if is_key(key) else None
        if not found:
            raise UsageError("there is no such capture", "run it again", "no-result")
        headers = {"content-disposition": f'attachment; filename="{arm}.pcapng"'}
        body = zlib.decompress(base64.b64decode(found))
        return Response(body, media_type="application/octet-stream", headers=headers)

    def shown(self, key: str, asked: Asked, visitor: str) -> dict[str, Any]:
        """Return what the templates show of a run."""
        scenario = self.site.scenario(asked.scenario)
        run = self.site.runs.find(key)
        answer = self.site.runs.answer(key) or (run.answer if run else None)
        target = target_of(scenario, asked)
        values = {f"set.{key}": value for key, _, value in (pair.partition("=") for pair in asked.sets)}
        return {
            "key": key,
            "events": f"/run/{key}/events",
            "again_at": f"/run/{key}/again",
            "asked": asked,
            "scenario": scenario,
            "network": self.site.network(scenario.name),
            "run": run,
            "answer": answer,
            "page": Markup(answer.page) if answer else Markup(""),
            "target": target,
            **(self.outcome(key, asked, visitor, answer.summary) if answer else {"summary": None}),
            "again": {"arm": "all" if len(asked.arms) == len(scenario.arms) else target, "seed": asked.seed, **values},
        }

    def outcome(self, key: str, asked: Asked, visitor: str, summary: dict[str, Any]) -> dict[str, Any]:
        """Return what the outcome shows: the verdict, and the visitor's prediction."""
        target = target_of(self.site.scenario(asked.scenario), asked)
        run, predicted = self.site.runs.find(key), self.site.store.prediction(key, visitor)
        observed = summary["arms"][target]["observed"]
        return {
            "summary": summary,
            "target": target,
            "compared": questions.compare(predicted, observed) if predicted else [],
            "from_store": lasts(summary) and not (run and run.visitor == visitor),
        }

    def _asked(self, key: str) -> tuple[str, Asked]:
        asked = self.site.store.asked(key) if is_key(key) else None
        if not asked or asked.scenario not in self.site.scenarios:
            raise UsageError("there is no run of that name", "start one from the catalogue", "no-result")
        return key, asked


def target_of(scenario: Scenario, asked: Asked) -> str:
    """Return the arm that a prediction is about: the first that is not the control."""
    return next((arm for arm in asked.arms if scenario.roles[arm] != "control"), asked.arms[0])


def _settings(scenario: Scenario, name: str) -> str:
    """Return what an arm sets, in words."""
    arm = scenario.arms[name]
    parts = [] if arm.settings == Settings() else [arm.settings.words()]
    parts += [f"{node}: {settings.words()}" for node, settings in arm.on.items()]
    parts += [f"{key}={value}" for key, value in arm.given.items()]
    return "; ".join(parts)
