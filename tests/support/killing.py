"""Kills `twlab serve`, its lab kernels and its browsers with SIGKILL, and looks at what is left."""

import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
from leftovers import left_behind, wait_for
from serving import CHROMIUM_FLAGS, Serving, program, serving

VICTIMS = ("server", "guest", "browser")
SOON_S = 300  # generous: the machine may be busy
_LATEST_S = 2.0  # after an order, so late at most is the moment


class Campaign:
    """Rounds on one state folder: in each an order, and a SIGKILL at a random moment after it.

    Args:
        folder: of the server's state.
        seed: of the moments.
    """

    def __init__(self, folder: Path, seed: int = 18):
        self._folder = folder
        self._chance = random.Random(seed)
        self._cookies: dict[str, httpx2.Cookies] = {}
        self._kept: list[str] = []  # links of runs that were shown
        self._class = ""
        self._broken_off = ""  # link of the run that the server had when it was killed
        self._orders = 0

    def run(self, rounds: int, say: Callable[[str], object] = lambda text: None) -> None:
        """Carry out so many rounds, the victims in turns. Raises AssertionError: something is lost, or left."""
        number = 0
        while number < rounds:
            with serving(self._folder) as server:
                self._as_before(server)
                while number < rounds:
                    victim = VICTIMS[number % len(VICTIMS)]
                    number += 1
                    say(f"{number:3} {victim:8} {getattr(self, f'_kill_{victim}')(server)}")
                    if victim == "server":
                        break
        with serving(self._folder) as server:
            self._as_before(server)

    def _as_before(self, server: Serving) -> None:
        """Order a run and open a class; or check that those of before are there."""
        if not self._kept:
            self._sound(server)
            with self._visitor(server, "teacher") as teacher:
                fields = {"scenario": "stale-data", "arm": "treatment", "control": "on"}
                self._class = _post(teacher, "/class/open", "/class", **fields).headers["location"]
            with self._visitor(server, "student") as student:
                _post(student, "/class/join", "/class", code=self._class[-5:], nickname="ada")
                _post(student, f"{self._class}/predict", self._class, **{"fact.reopened": "yes"})
        with self._visitor(server, "stranger") as stranger:
            for link in self._kept:
                assert "From the store" in stranger.get(link).text, link
        with self._visitor(server, "student") as student:
            assert "Your prediction is kept" in student.get(self._class).text
        with self._visitor(server, "teacher") as teacher:
            sheet = teacher.get(f"{self._class}/sheet.csv").text
            assert "ada" in sheet and "yes" in sheet
        if self._broken_off:
            server.wait_until_warm(2)
            assert not list((self._folder / "workers").rglob("*.pcapng")), "folders of workers are left"
            with self._visitor(server, "stranger") as stranger:
                page = stranger.get(self._broken_off).text
            assert 'class="outcome"' in page or "Run it again" in page

    def _kill_server(self, server: Serving) -> str:
        with self._visitor(server, "killer") as visitor:
            link, below = self._order(visitor), server.below()
            at_s = self._moment()
            os.kill(server.process.pid, signal.SIGKILL)
        assert wait_for(lambda: gone(below), 60), "processes are left"
        self._broken_off = link
        return f"after {at_s:.2f} s: {len(below)} processes ended with it"

    def _kill_guest(self, server: Serving) -> str:
        with self._visitor(server, "killer") as visitor:
            link = self._order(visitor)
            at_s = self._moment()
            guests = server.guests()
            victims = [self._chance.choice(guests)] if guests else []
            for pid in victims:
                os.kill(pid, signal.SIGKILL)
            page = finished(visitor, link)
            assert 'class="outcome"' in page or "Run it again" in page
            lost = (
                "Run it again" in page or "could not" in page or "guest" in page.partition('class="outcome"')[2][:600]
            )
        assert wait_for(lambda: gone(victims), 60), "guests are left"
        self._sound(server)
        fate = "was lost, and says so" if lost else "was made"
        return f"after {at_s:.2f} s: {len(victims)} lab kernel of {len(guests)}; the run {fate}"

    def _kill_browser(self, server: Serving) -> str:
        with self._visitor(server, "killer") as visitor, chromium() as browse:
            link = self._order(visitor)
            tag, process = browse(server.url + link)
            at_s = self._moment()
            process.kill()
            process.wait()
            assert 'class="outcome"' in finished(visitor, link)
            self._kept.append(link)
        assert not left_behind(tag), "processes of the browser are left"
        return f"after {at_s:.2f} s: its run was made"

    def _sound(self, server: Serving) -> None:
        """Order a run, and see it through."""
        with self._visitor(server, "sound") as visitor:
            link = self._order(visitor)
            page = finished(visitor, link)
        assert 'class="outcome"' in page and ("REFUTED" in page or "SUPPORTED" in page)
        self._kept.append(link)

    def _order(self, visitor: httpx2.Client) -> str:
        self._orders += 1
        fields = {"arm": "treatment", "set.time_wait_s": f"{1 + self._orders / 10:g}", "fact.reopened": "yes"}
        return str(_post(visitor, "/scenario/stale-data/run", "/scenario/stale-data", **fields).headers["location"])

    def _moment(self) -> float:
        at_s = self._chance.uniform(0, _LATEST_S)
        wait_for(lambda: False, at_s)
        return at_s

    @contextmanager
    def _visitor(self, server: Serving, name: str) -> Iterator[httpx2.Client]:
        """A visitor who keeps the cookie from one start of the server to the next."""
        with httpx2.Client(base_url=server.url, timeout=SOON_S, cookies=self._cookies.get(name)) as client:
            yield client
            self._cookies[name] = client.cookies


def _post(client: httpx2.Client, path: str, page: str, **fields: str) -> httpx2.Response:
    token = re.search(r'name="token" value="([^"]+)"', client.get(page).text)
    assert token, page
    answer = client.post(path, data={"token": token[1], **fields})
    assert answer.status_code == 303, (path, answer.status_code)
    return answer


def finished(client: httpx2.Client, link: str) -> str:
    """Follow a run to its end; return its page."""
    with client.stream("GET", f"{link}/events") as events:
        for line in events.iter_lines():
            if '"event": "over"' in line:
                break
    return str(client.get(link).text)


def gone(pids: list[int]) -> bool:
    """Whether none of `pids` is there any more; a process that is a zombie has ended."""
    return not [pid for pid in pids if program(pid)]


@contextmanager
def chromium() -> Iterator[Callable[[str], tuple[str, "subprocess.Popen[bytes]"]]]:
    """Yield what opens a page in a browser; returns a tag in its environment, and its process."""
    with ExitStack() as stack, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:

        def browse(url: str) -> tuple[str, "subprocess.Popen[bytes]"]:
            program_of = shutil.which("chromium")
            assert program_of
            tag = f"TWLAB_BROWSER={profile}"
            process = subprocess.Popen(
                [
                    program_of,
                    *CHROMIUM_FLAGS,
                    "--headless=new",
                    "--remote-debugging-port=0",
                    f"--user-data-dir={profile}",
                    url,
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "TWLAB_BROWSER": profile},
            )
            stack.callback(process.kill)
            return tag, process

        yield browse
