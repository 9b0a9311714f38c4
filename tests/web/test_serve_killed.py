"""`twlab serve`, killed with SIGKILL at random moments: nothing is left, and what was kept is there."""

import os
import random
import re
import signal
from contextlib import contextmanager

import httpx2
import pytest
from leftovers import wait_for
from serving import place, program, serving

from twlab.web.store import Store

KILLS = 3  # of each; a random moment each
pytestmark = pytest.mark.guest


@pytest.fixture
def folder():
    with place() as made:
        yield made


def gone(pids):
    """Whether none of `pids` is there any more; a process that is a zombie has ended."""
    return not [pid for pid in pids if program(pid)]


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


def finished(client, link):
    """Follow a run to its end; return its page."""
    with client.stream("GET", f"{link}/events") as events:
        for line in events.iter_lines():
            if '"event": "over"' in line:
                break
    return client.get(link).text


@pytest.mark.slow
def test_kill_9_of_the_server_leaves_nothing(folder):
    """Its workers and lab kernels end with it; answers, predictions and links are there again
    afterwards, and the folders of workers are empty.
    """
    chance = random.Random(18)
    with serving(folder) as server, ordered(server.url, 1.5) as (client, link):
        assert 'class="outcome"' in finished(client, link)
    for kill in range(KILLS):
        with serving(folder) as server, ordered(server.url, 2 + kill):
            wait_for(lambda: False, chance.uniform(0, 2))
            below = server.below()
            os.kill(server.process.pid, signal.SIGKILL)
            assert wait_for(lambda below=below: gone(below), 60)
    assert [path for path in (folder / "workers").rglob("*.pcapng") if "first" not in path.parts] == []
    store = Store(folder / "serve.sqlite")
    assert store.answer(link[5:])
    store.close()
    with serving(folder) as server:
        page = httpx2.get(server.url + link).text
        assert "From the store" in page


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
