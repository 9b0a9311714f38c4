"""`twlab serve`, killed with SIGKILL at random moments: nothing is left, and what was kept is there."""

import os
import random
import re
import signal
from pathlib import Path

import httpx2
import pytest
from leftovers import wait_for
from serving import program, serving

from twlab.web.store import Store

KILLS = 3  # of each; a random moment each
pytestmark = pytest.mark.guest


def gone(pids):
    """Whether none of `pids` is there any more; a process that is a zombie has ended."""
    return not [pid for pid in pids if program(pid)]


def order(url, time_wait_s):
    """Order a run; return a client and the run's link."""
    client = httpx2.Client(base_url=url, timeout=300)
    token = re.search(r'name="token" value="([^"]+)"', client.get("/scenario/stale-data").text)[1]
    fields = {"token": token, "arm": "treatment", "set.time_wait_s": f"{time_wait_s:g}", "fact.reopened": "yes"}
    answer = client.post("/scenario/stale-data/run", data=fields)
    assert answer.status_code == 303
    return client, answer.headers["location"]


def finished(client, link):
    """Follow a run to its end; return its page."""
    with client.stream("GET", f"{link}/events") as events:
        for line in events.iter_lines():
            if '"event": "over"' in line:
                break
    return client.get(link).text


@pytest.mark.slow
def test_kill_9_of_the_server_leaves_nothing(tmp_path):
    """Its workers and lab kernels end with it; answers, predictions and links are there again
    afterwards, and the folders of workers are empty.
    """
    shared_memory = set(Path("/dev/shm").iterdir())
    chance = random.Random(18)
    with serving(tmp_path / "state") as server:
        client, link = order(server.url, 1.5)
        assert 'class="outcome"' in finished(client, link)
    for kill in range(KILLS):
        with serving(tmp_path / "state") as server:
            order(server.url, 2 + kill)
            wait_for(lambda: False, chance.uniform(0, 2))
            below = server.below()
            os.kill(server.process.pid, signal.SIGKILL)
            assert wait_for(lambda below=below: gone(below), 60)
    assert set(Path("/dev/shm").iterdir()) <= shared_memory
    assert [path for path in (tmp_path / "state" / "workers").rglob("*.pcapng") if "first" not in path.parts] == []
    store = Store(tmp_path / "state" / "serve.sqlite")
    assert store.answer(link[5:])
    store.close()
    with serving(tmp_path / "state") as server:
        page = httpx2.get(server.url + link).text
        assert "From the store" in page


def test_kill_9_of_a_guest_or_a_worker_costs_one_run(tmp_path):
    """A run whose lab kernel or worker is killed says so, or is made by the next; the server goes
    on, and the next run is sound.
    """
    with serving(tmp_path / "state", "--jobs", "1") as server:
        for number, victims in enumerate((server.guests, server.workers)):
            server.wait_until_warm()
            client, link = order(server.url, 2 + number)
            wait_for(lambda: False, 0.05)
            for pid in victims():
                os.kill(pid, signal.SIGKILL)
            page = finished(client, link)
            assert 'class="outcome"' in page or "Run it again" in page
            client, link = order(server.url, 5 + number)
            page = finished(client, link)
            assert 'class="outcome"' in page and "could not be carried out" not in page
            assert "REFUTED" in page or "SUPPORTED" in page
