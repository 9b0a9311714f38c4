"""Visitors of the server's pages, without a lab kernel: the application and Starlette's test client."""

import asyncio
import json
import re
import weakref
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from twlab.web import app
from twlab.web.guard import Rate, Secret
from twlab.web.runs import Runs
from twlab.web.site import Site
from twlab.web.store import Answer, Store

HOME = "http://localhost"
OBSERVED = {"reopened": True, "foreign_bytes": 400, "errors": ""}


def make_site(folder: Path, *, teacher_token: str = "", most_waiting: int = 50, **limits: Any) -> tuple[Site, Any]:
    """A site whose queue no worker empties, and its application."""
    store = Store(folder / "serve.sqlite")
    runs = Runs(store, folder / "workers", most_waiting=most_waiting)
    site = Site(store, runs, Secret(folder / "secret"), "a kernel", teacher_token)
    weakref.finalize(site, store.close)  # Python 3.13 warns of a database that is left open
    rates = {"rate": Rate(1e6, 1e6), "posts": Rate(1e6, 1e6), **limits}
    return site, app.build(site, ("localhost",), **rates)


class Visitor:
    """A browser with its cookie."""

    def __init__(self, application: Any):
        self.client = TestClient(application, base_url=HOME, follow_redirects=False)

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(path, **more)

    def token(self, path: str = "/scenario/stale-data") -> str:
        """The token of a page's form."""
        return re.search(r'name="token" value="([^"]+)"', self.get(path).text)[1]

    def post(self, path: str, /, page: str = "/scenario/stale-data", **fields: Any) -> Any:
        """Send a form with its token."""
        return self.client.post(path, data={"token": self.token(page), **fields})

    def order(self, scenario: str = "stale-data", arm: str = "treatment", **fields: str) -> Any:
        sent = {"arm": arm, "control": "on"}
        return self.client.post(
            f"/scenario/{scenario}/run",
            data={"token": self.token(), **sent, **{name.replace("__", "."): text for name, text in fields.items()}},
        )


def summary(arm: str = "treatment", **observed: Any) -> dict[str, Any]:
    """What the store keeps of a run."""
    shown = {
        "role": "treatment",
        "predicted": {},
        "observed": {**OBSERVED, **observed},
        "ok": True,
        "outcome": "as predicted",
        "error": None,
        "virtual_s": 1.5,
    }
    return {
        "scenario": "stale-data",
        "verdict": "SUPPORTED",
        "kernel": "7.3",
        "command": "twlab run stale-data",
        "arms": {arm: shown, "control": {**shown, "role": "control"}},
    }


def finish(site: Site, key: str, page: str = "<p>the run</p>", lasts: bool = True, **observed: Any) -> None:
    """End the run that waits, as a worker does: first its verdict, then all of it."""
    run = asyncio.run(site.runs._next())
    assert run.key == key
    found = summary(**observed)
    if not lasts:
        found["arms"]["control"]["error"] = {"kind": "EngineError", "slug": "guest-hung", "message": "it hung"}
    run.add({"event": "verdict", "summary": found})
    run.answer = Answer(found, page)
    if lasts:
        site.store.keep(key, found, page, {})
    site.runs._end(run)


def first_told(visitor: Visitor, path: str) -> Any:
    """The first event of a stream that goes on."""
    cookie = "; ".join(f"{name}={value}" for name, value in visitor.client.cookies.items())
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http"}
    scope |= {"path": path, "raw_path": path.encode(), "query_string": b"", "root_path": "", "client": ("there", 1)}
    scope |= {"server": ("localhost", 80), "headers": [(b"host", b"localhost"), (b"cookie", cookie.encode())]}

    async def listen() -> Any:
        said: asyncio.Queue[Any] = asyncio.Queue()
        stream = asyncio.create_task(visitor.client.app(scope, asyncio.Event().wait, said.put))
        try:
            while not (line := (await asyncio.wait_for(said.get(), 20)).get("body", b"")):
                pass
        finally:
            stream.cancel()
        return json.loads(line.decode().removeprefix("data: "))

    return asyncio.run(listen())


def streamed(visitor: Visitor, path: str) -> str:
    """The verdict's markup on a stream of events."""
    events = [json.loads(line[6:]) for line in visitor.get(path).text.splitlines() if line.startswith("data: ")]
    assert events[-1] == {"event": "over"}
    [markup] = [event["markup"] for event in events if event["event"] == "verdict"]
    return markup
