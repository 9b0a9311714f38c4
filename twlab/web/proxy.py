"""The page My proxy: the plan with sliders, and a diagnosis of what was pasted."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from twlab.diagnose.collect import command
from twlab.diagnose.explained import explain
from twlab.errors import UsageError
from twlab.planner.demand import Demand
from twlab.planner.plan import Plan, make
from twlab.report.html import plan_page
from twlab.web.site import Site
from twlab.web.sliders import Slider, values, wrong
from twlab.web.worker import Worker

SLIDERS = (
    Slider("rate_per_s", "new connections to the origins, a second", "", 1, 5000, 500, 1),
    Slider("origins", "origins: pairs of address and port", "", 1, 64, 1, 1),
    Slider("sources", "addresses that the proxy connects from", "", 1, 64, 1, 1),
    Slider("port_low", "first port of the range", "", 1024, 65_535, 32_768, 1),
    Slider("port_high", "last port of the range", "", 1024, 65_535, 60_999, 1),
    Slider("time_wait_s", "length of TIME_WAIT", "s", 0.5, 120, 60, 0.5),
    Slider("life_s", "life of a connection", "s", 0, 30, 0.1, 0.1),
    Slider("delay_s", "age of the oldest segment that is to do no harm", "s", 0.5, 120, 10, 0.5),
)
_WHOLE = ("origins", "sources", "port_low", "port_high")
_CLOSERS = ("proxy", "origin")
_LONGEST_SYMPTOM = 100
_SHOWS = re.compile(r"(?P<scenario>[a-z0-9-]+)(?: --arm (?P<arm>[a-z0-9-]+))?")


class Proxy:
    """The handlers of the page."""

    def __init__(self, site: Site):
        self.site = site
        self._one_at_a_time = asyncio.Semaphore(1)

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/proxy", self.page),
            Route("/proxy/plan", self.plan),
            Route("/proxy/diagnose", self.diagnose, methods=["POST"]),
        ]

    async def page(self, request: Request) -> Response:
        return self._page(request)

    async def plan(self, request: Request) -> Response:
        """Return the plan alone, for a page whose sliders were moved."""
        try:
            return HTMLResponse(self._plan(request))
        except UsageError as error:
            return wrong(error)

    async def diagnose(self, request: Request) -> Response:
        """Diagnose what was pasted: what ``ss``, ``nstat``, ``sysctl`` print."""
        async with self._one_at_a_time, Worker("twlab.web.diagnosing") as worker:
            [found] = [answer async for answer in worker.answers({"form": request.state.long_form})]
        if not found["parts"]:
            message = "nothing in the text is known"
            raise UsageError(message, f"paste what this prints: {command()}", "bad-diagnosis")
        return self._page(request, **found)

    def _page(self, request: Request, text: str = "", parts: Sequence[Mapping[str, Any]] = ()) -> Response:
        return self.site.page(
            request,
            "proxy.html.j2",
            sliders=SLIDERS,
            given=values(SLIDERS, request.query_params),
            chosen=_chosen(request.query_params),
            seen=_seen(request.query_params),
            plan=self._plan(request),
            text=text,
            command=command(),
            parts=parts,
            shows=self.shows,
        )

    def _plan(self, request: Request) -> Markup:
        numbers: dict[str, Any] = {**values(SLIDERS, request.query_params), **_chosen(request.query_params)}
        numbers |= {name: int(numbers[name]) for name in _WHOLE}
        made, seen = make(Demand(**numbers)), _seen(request.query_params)
        filled = plan_page.values(made, seen, _causes(made, seen))
        return self.site.render(request, "plan_part.html.j2", **filled, shows=self.shows)

    def shows(self, text: str) -> dict[str, str] | None:
        """Return scenario and arm that ``port-exhaustion --arm above`` names, or None."""
        named = _SHOWS.fullmatch(text)
        scenario = self.site.scenarios.get(named["scenario"]) if named else None
        if not named or not scenario:
            return None
        treatment = next(name for name, role in scenario.roles.items() if role == "treatment")
        return {"scenario": scenario.name, "arm": named["arm"] if named["arm"] in scenario.arms else treatment}


def _chosen(given: Mapping[str, str]) -> dict[str, Any]:
    closer = given.get("closes_first", "proxy")
    return {
        "closes_first": closer if closer in _CLOSERS else "proxy",
        "timestamps": given.get("timestamps", "on") != "off",
        "keep_alive": given.get("keep_alive", "on") != "off",
    }


def _seen(given: Mapping[str, str]) -> str:
    """Return the symptom that is to be explained; empty: none."""
    return given.get("symptom", "").strip()[:_LONGEST_SYMPTOM]


def _causes(made: Plan, seen: str) -> list[dict[str, Any]]:
    """Return the causes of a symptom as JSON values; empty where none is known."""
    try:
        return [cause.as_dict() for cause in explain(made, [seen])] if seen else []
    except UsageError:
        return []
