"""Visitors of the server's pages, without a lab kernel: the application and Starlette's test client."""

import re
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from twlab.web import app
from twlab.web.guard import Rate, Secret
from twlab.web.runs import Runs
from twlab.web.site import Site
from twlab.web.store import Store

HOME = "http://localhost"
OBSERVED = {"reopened": True, "foreign_bytes": 400, "errors": ""}


def make_site(folder: Path, *, teacher_token: str = "", most_waiting: int = 50, **limits: Any) -> tuple[Site, Any]:
    """A site whose queue no worker empties, and its application."""
    store = Store(folder / "serve.sqlite")
    runs = Runs(store, folder / "workers", most_waiting=most_waiting)
    site = Site(store, runs, Secret(folder / "secret"), "a kernel", teacher_token)
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
