"""The page How low?: a map of TIME_WAIT by age of the segment, and a curve.

A cell of the map is a trial of `stale-segment`. It is run when it is clicked. The curve is
arithmetic (`twlab.planner`), with the visitor's own delay, window and rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from twlab.errors import UsageError
from twlab.planner.demand import Demand
from twlab.planner.plan import make
from twlab.web.curve import Point, draw, often
from twlab.web.runs import QueueFull
from twlab.web.site import Site, to
from twlab.web.sliders import Slider, values, wrong
from twlab.web.store import Asked

SCENARIO, ARM = "stale-segment", "treatment"
LENGTHS_S = (1, 2, 5, 10, 15, 30, 60)
AGES_S = (0.5, 1, 2, 5, 10, 20, 40, 80)
SLIDERS = (
    Slider("delay_s", "age of the oldest late segment", "s", 0.5, 120, 30, 0.5),
    Slider("window", "receive window", "bytes", 4096, 6_291_456, 262_144, 4096),
    Slider("rate_per_s", "new connections a second, to one origin", "", 1, 2000, 300, 1),
    Slider("throughput", "bytes a second of a connection", "", 10_000, 1_000_000_000, 500_000_000, 10_000),
    Slider("late_in_a_million", "connections in a million that leave a late segment", "", 1, 10_000, 100, 1),
)
_MARKED_S = (1, 5, 10, 15, 30, 60)
_HAZARDS = ("stale-data", "stale-data-unrelated-isn")


class HowLow:
    """The handlers of the page."""

    def __init__(self, site: Site):
        self.site = site

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/how-low", self.page),
            Route("/how-low/curve", self.curve),
            Route("/how-low/run", self.run, methods=["POST"]),
        ]

    async def page(self, request: Request) -> Response:
        timestamps = request.query_params.get("timestamps") == "1"
        keys = {(length, age): self.site.key(order(length, age, timestamps)) for length in LENGTHS_S for age in AGES_S}
        known = self.site.store.summaries(list(keys.values()))
        cells = {
            place: (key, outcome(known[key]["arms"][ARM]["observed"]) if key in known else "")
            for place, key in keys.items()
        }
        return self.site.page(
            request,
            "how_low.html.j2",
            lengths=LENGTHS_S,
            ages=AGES_S,
            cells=cells,
            timestamps=timestamps,
            sliders=SLIDERS,
            given=values(SLIDERS, request.query_params),
            curve=self._curve(request),
        )

    async def curve(self, request: Request) -> Response:
        """Return the curve alone, for a page whose sliders were moved."""
        try:
            return HTMLResponse(self._curve(request))
        except UsageError as error:
            return wrong(error)

    def _curve(self, request: Request) -> Markup:
        found = points(values(SLIDERS, request.query_params))
        marked = [point for point in found if point.time_wait_s in _MARKED_S]
        return self.site.render(request, "curve.html.j2", drawing=draw(found), points=marked, often=often)

    async def run(self, request: Request) -> Response:
        """Run the trial of the cell that was clicked, and go there."""
        length, _, age = request.state.form.get("cell", "").partition(" ")
        lengths, ages = {f"{value:g}": value for value in LENGTHS_S}, {f"{value:g}": value for value in AGES_S}
        if length not in lengths or age not in ages:
            raise UsageError("the map has no such cell", "click on one of its cells", "bad-value")
        timestamps = request.state.form.get("timestamps") == "1"
        try:
            key = self.site.order(order(lengths[length], ages[age], timestamps), request.state.visitor)
        except QueueFull as error:
            return self.site.full(request, error)
        return to(f"/run/{key}")


def order(time_wait_s: float, delay_s: float, timestamps: bool) -> Asked:
    """Return the order for one cell."""
    sets = [f"delay_s={delay_s:g}", f"time_wait_s={time_wait_s:g}", *(["timestamps=1"] if timestamps else [])]
    return Asked(SCENARIO, (ARM,), tuple(sorted(sets)))


def outcome(observed: Mapping[str, Any]) -> str:
    """Return ``harmed``, ``delayed``, ``unharmed``, or empty without a result."""
    return next((name for name in ("harmed", "delayed", "unharmed") if observed.get(name)), "")


def points(given: Mapping[str, float]) -> list[Point]:
    """Return what each whole second of TIME_WAIT means, from 1 to 60.

    Timestamps are off, for with them PAWS drops what is late.
    """
    found = []
    for time_wait_s in range(1, 61):
        demand = Demand(
            rate_per_s=given["rate_per_s"],
            delay_s=given["delay_s"],
            window=int(given["window"]),
            throughput=given["throughput"],
            late_share=given["late_in_a_million"] / 1e6,
            time_wait_s=time_wait_s,
            timestamps=False,
        )
        asked = make(demand).asked
        harmed = sum(hazard.per_day or 0.0 for hazard in asked.hazards if hazard.name in _HAZARDS)
        found.append(Point(time_wait_s, harmed, asked.ceiling_per_s))
    return found
