"""`twlab serve`, killed with SIGKILL at random moments: nothing is left, and what was kept is there."""

import os
import re
import shutil
import signal
from contextlib import contextmanager

import httpx2
import pytest
from killing import VICTIMS, Campaign, finished
from leftovers import wait_for
from serving import place, serving

pytestmark = pytest.mark.guest


@pytest.fixture
def folder():
    with place() as made:
        yield made


@contextmanager
def ordered(url, time_wait_s):
    """Order a run; yield a client and the run's link."""
    with httpx2.Client(base_url=url, timeout=300) as client:
        yield client, order(client, time_wait_s)


def order(client, time_wait_s):
    token = re.search(r'name="token" value="([^"]+)"', client.get("/scenario/stale-data").text)[1]
    fields = {"token": token, "arm": "treatment", "set.time_wait_s": f"{time_wait_s:g}", "fact.reopened": "yes"}
    answer = client.post("/scenario/stale-data/run", data=fields)
    assert answer.status_code == 303
    return answer.headers["location"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here")
def test_kill_9_leaves_nothing_and_loses_nothing(folder):
    """Of the server, a lab kernel, a browser, one each; `benchmarks/kills.py` does it 50 times."""
    Campaign(folder).run(len(VICTIMS))


def test_kill_9_of_a_guest_or_a_worker_costs_one_run(folder):
    """A run whose lab kernel or worker is killed says so, or is made by the next; the server goes
    on, and the next run is sound.
    """
    with serving(folder, "--jobs", "1") as server:
        for number, victims in enumerate((server.guests, server.workers)):
            server.wait_until_warm()
            with ordered(server.url, 2 + number) as (client, link):
                wait_for(lambda: False, 0.05)
                for pid in victims():
                    os.kill(pid, signal.SIGKILL)
                page = finished(client, link)
            assert 'class="outcome"' in page or "Run it again" in page
            with ordered(server.url, 5 + number) as (client, link):
                page = finished(client, link)
            assert 'class="outcome"' in page and "could not be carried out" not in page
            assert "REFUTED" in page or "SUPPORTED" in page
