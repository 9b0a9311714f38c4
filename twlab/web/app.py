"""The application: all routes behind the guard."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from twlab import paths
from twlab.errors import LabError, UsageError
from twlab.report.ladder import svg
from twlab.web.classroom import Classroom
from twlab.web.guard import Guard, Rate
from twlab.web.how_low import HowLow
from twlab.web.proxy import Proxy
from twlab.web.scenario_pages import ScenarioPages
from twlab.web.site import Site, static

_FOUND = ("no-such-scenario", "no-result", "no-such-class")  # slugs of what is not there
_OURS = Path(__file__).parent / "templates"
_REPORTS = paths.PACKAGE / "report" / "html" / "templates"
_CACHED = {"cache-control": "max-age=3600"}


def build(site: Site, hosts: Iterable[str], rate: Rate, posts: Rate) -> Starlette:
    """Return the application.

    Args:
        hosts: names by which it may be asked for; empty: any.
        rate, posts: of one address, of all requests and of forms.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        site.runs.start()
        try:
            yield
        finally:
            await site.runs.stop()

    async def wrong(request: Request, error: Exception) -> Response:
        assert isinstance(error, LabError)
        return site.problem(request, error, 404 if error.slug in _FOUND else 400)

    async def missing(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        said = UsageError("there is no such page", "the catalogue has them all", "no-result")
        return site.problem(request, said, status)

    runs = ScenarioPages(site)
    return Starlette(
        routes=[
            *_files(),
            *runs.routes(),
            *HowLow(site).routes(),
            *Proxy(site).routes(),
            *Classroom(site, runs).routes(),
        ],
        middleware=[Middleware(Guard, secret=site.secret, hosts=hosts, rate=rate, posts=posts)],
        exception_handlers={LabError: wrong, HTTPException: missing},
        lifespan=lifespan,
    )


def _files() -> list[Route]:
    style = "\n".join([svg.STYLE, static(_REPORTS, "page.css"), static(_OURS, "web.css")])
    return [
        Route("/static/style.css", _file(style, "text/css")),
        Route("/static/web.js", _file(static(_OURS, "web.js"), "text/javascript")),
        Route("/static/report.js", _file(static(_REPORTS, "page.js"), "text/javascript")),
        Route("/static/icon.svg", _file(static(_OURS, "icon.svg"), "image/svg+xml")),
    ]


def _file(text: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    body = text.encode()

    async def handler(request: Request) -> Response:
        return Response(body, media_type=kind, headers=_CACHED)

    return handler
