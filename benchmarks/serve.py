"""What `twlab serve` costs: clicks, a class, a page that many look at, an idle server, many runs.

    .venv/bin/python benchmarks/serve.py [CLICKS] [STUDENTS] [RUNS]

It starts the server on a free port of loopback. CLICKS (default 20) in Chromium one after the other,
each an order of its own, with a warm lab kernel: from the click, as the browser stamps it, to the
frame that shows the verdict, and to the whole page; a quarter as many each with a seed of its own, for
which a lab kernel has to boot. Then the server alone, spoken to as browsers do (a form, the stream of
events, the page): as many clicks again, beside each the same order by `twlab run`, in turns. Then
STUDENTS (default 40) that click within ten seconds, five hostile visitors among them; 400 visitors of
one page; and RUNS (default 500) runs, with what the server holds after a tenth of them and after all.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx2

sys.path[:0] = [str(Path(__file__).parent.parent / "tests"), str(Path(__file__).parent.parent / "tests" / "support")]
from serving import CHROMIUM_FLAGS, Serving, place, serving, state  # noqa: E402

WITHIN_S = 10.0  # the class clicks
VISITORS = 400
HOSTILE = ("huge", "forged", "replayed", "slow", "stranger")
TICKS = os.sysconf("SC_CLK_TCK")


class Browser:
    """A visitor: its cookie, its token."""

    def __init__(self, url: str):
        self.client = httpx2.AsyncClient(base_url=url, timeout=600)

    async def token(self) -> str:
        found = re.search(r'name="token" value="([^"]+)"', (await self.client.get("/scenario/stale-data")).text)
        assert found
        return found[1]

    async def click(self, token: str, time_wait_s: float) -> tuple[float, str]:
        """Order one arm, follow it, load its page: seconds, and the page."""
        began_s = time.monotonic()
        form = {"token": token, "arm": "treatment", "set.time_wait_s": f"{time_wait_s:g}"}
        answer = await self.client.post("/scenario/stale-data/run", data=form)
        link = answer.headers["location"]
        async with self.client.stream("GET", f"{link}/events") as events:
            async for line in events.aiter_lines():
                if '"event": "over"' in line:
                    break
        page = (await self.client.get(link)).text
        assert f"time_wait_s={time_wait_s:g}" in page and 'class="outcome"' in page, answer.status_code
        return time.monotonic() - began_s, link


async def clicks(server: Serving, count: int) -> None:
    """One visitor, alone; beside the command line, in turns."""
    browser = Browser(server.url)
    token = await browser.token()
    warm, cold, stored = [], [], []
    with tempfile.TemporaryDirectory() as out:
        for number in range(count):
            await asyncio.to_thread(server.wait_until_warm, 2)
            took_s, link = await browser.click(token, 0.5 + number / 100)
            warm.append(took_s)
            for _ in range(10):
                began_s = time.monotonic()
                await browser.client.get(link)
                stored.append(time.monotonic() - began_s)
            began_s = time.monotonic()
            pair = f"time_wait_s={0.5 + number / 100:g}"
            command = [sys.executable, "-m", "twlab", "run", "stale-data", "--arm", "treatment", "--set", pair]
            await asyncio.to_thread(subprocess.run, [*command, "--out", out], capture_output=True, check=False)
            cold.append(time.monotonic() - began_s)
    print(f"click to verdict, warm   {shares(warm)}")
    print(f"twlab run, in turns      {shares(cold)}   ratio of medians {ratio(warm, cold):.2f}")
    print(f"page from the store      {shares(stored)}")


# When the first frame that shows the verdict, and the whole page, has been handed to the screen:
# then the frame after it begins. Seconds since the click.
STOPWATCH = """
addEventListener("click", event => { sessionStorage.clickedMs = performance.timeOrigin + event.timeStamp; }, true);
const shown = (name, there) => {
  const look = () => requestAnimationFrame(() => {
    if (!there()) return look();
    requestAnimationFrame(() => {
      const tookMs = performance.timeOrigin + performance.now() - sessionStorage.clickedMs;
      document.documentElement.dataset[name] = tookMs / 1000;
    });
  });
  look();
};
const onScreen = place => place?.checkVisibility() && place.getBoundingClientRect().top < innerHeight;
shown("verdict", () => onScreen(document.querySelector(".outcome .verdict")));
shown("page", () => document.querySelector("section.run svg.ladder") && !document.querySelector("div[data-packed]"));
"""


async def seen(server: Serving, count: int) -> None:
    """From the click to the screen of a real browser, on the same machine."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=CHROMIUM_FLAGS)
        page = await browser.new_page()
        await page.add_init_script(STOPWATCH)

        async def click(field: str, value: str) -> tuple[float, float]:
            await asyncio.to_thread(server.wait_until_warm, 2)
            await page.goto(f"{server.url}/scenario/stale-data")
            await page.uncheck("input[name=control]")
            await page.locator(f"[name='{field}']").evaluate("(each, value) => { each.value = value; }", value)
            await page.get_by_role("button", name="Run it").click(no_wait_after=True)
            await page.wait_for_selector("html[data-verdict][data-page]", state="attached")
            told = await page.evaluate("({...document.documentElement.dataset})")
            return float(told["verdict"]), float(told["page"])

        await click("set.time_wait_s", "0.29")  # the browser's and the server's own first steps
        warm = [await click("set.time_wait_s", f"{0.3 + number / 1000:g}") for number in range(count)]
        cold = [await click("seed", str(2 + number)) for number in range(max(1, count // 4))]
        await browser.close()
    for words, times in (("warm  ", warm), ("cold  ", cold)):
        verdicts, pages = zip(*times, strict=True)
        print(f"screen, {words}           verdict {shares(verdicts)}   whole page {shares(pages)}")


async def class_of(server: Serving, students: int) -> None:
    """Students who click within ten seconds, each with settings of his own; five hostile visitors."""
    browsers = [Browser(server.url) for _ in range(students)]
    tokens = [await browser.token() for browser in browsers]
    began_s = time.monotonic()

    async def student(number: int) -> str:
        await asyncio.sleep(random.Random(number).uniform(0, WITHIN_S))
        return (await browsers[number].click(tokens[number], 2 + number / 50))[1]

    attacks = [hostile(server.url, kind, tokens[0]) for kind in HOSTILE]
    found = await asyncio.gather(*(student(number) for number in range(students)), *attacks)
    took_s = time.monotonic() - began_s
    links, refused = found[:students], found[students:]
    print(f"class of {students}: the last has its verdict after {took_s:.1f} s, {len(set(links))} results, none lost")
    print("hostile: " + ", ".join(f"{kind} {status}" for kind, status in zip(HOSTILE, refused, strict=True)))


async def hostile(url: str, kind: str, token: str) -> str:
    """Return how the server answered."""
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        await client.get("/")
        if kind == "huge":
            return str(
                (await client.post("/scenario/stale-data/run", data={"token": token, "x": "a" * 100_000})).status_code
            )
        if kind == "forged":
            return str((await client.get("/run/0123456789abcdef0123")).status_code)
        if kind == "replayed":
            return str((await client.post("/scenario/stale-data/run", data={"token": token, "arm": "all"})).status_code)
        if kind == "stranger":
            return str((await client.get("/class/ZZZZZ/sheet.csv")).status_code)
    reader, writer = await asyncio.open_connection("localhost", int(url.rpartition(":")[2]))
    writer.write(b"GET / HTTP/1.1\r\nHost: local")
    await writer.drain()
    began_s = time.monotonic()
    await reader.read()
    writer.close()
    return f"closed after {time.monotonic() - began_s:.0f} s"


async def same_page(server: Serving) -> None:
    """Many visitors of one run that is in the store."""
    browser = Browser(server.url)
    _, link = await browser.click(await browser.token(), 0.5)
    limits = httpx2.Limits(max_connections=64)
    async with httpx2.AsyncClient(base_url=server.url, timeout=600, limits=limits) as client:
        began_s, used_s = time.monotonic(), cpu_s(server.process.pid)
        answers = await asyncio.gather(*(client.get(link) for _ in range(VISITORS)))
        took_s, used_s = time.monotonic() - began_s, cpu_s(server.process.pid) - used_s
    assert all(answer.status_code == 200 for answer in answers)
    print(
        f"{VISITORS} visitors of one page  {VISITORS / took_s:.0f} a second; "
        f"{1000 * used_s / VISITORS:.2f} ms of the server's processor each"
    )


async def idle(server: Serving) -> None:
    """Processor time while nothing is asked."""
    await asyncio.to_thread(server.wait_until_warm, 2)
    before = [cpu_s(pid) for pid in (server.process.pid, *server.below())]
    await asyncio.sleep(10)
    after = [cpu_s(pid) for pid in (server.process.pid, *server.below())]
    print(f"idle for 10 s            {1000 * (sum(after) - sum(before)):.0f} ms of processor")


async def many(server: Serving, runs: int, folder: Path) -> None:
    """What the server holds after a tenth of the runs, and after all: two visitors at a time."""

    async def visit(numbers: Iterator[int]) -> None:
        for number in numbers:
            browser = Browser(server.url)
            await browser.click(await browser.token(), 5 + number / 100)
            await browser.client.aclose()

    early = max(1, runs // 10)
    for begin, until in ((0, early), (early, runs)):
        numbers = iter(range(begin, until))  # the two share it
        await asyncio.gather(visit(numbers), visit(numbers))
        await asyncio.to_thread(server.wait_until_warm, 2)
        print(f"after {until:4} runs          {held(server, folder)}")


def held(server: Serving, folder: Path) -> str:
    """What the server and its workers hold, and what lies in the state's folder and in /dev/shm."""
    pids = [server.process.pid, *server.workers()]
    memory_mib = sum(resident_mib(pid) for pid in pids)
    descriptors = sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)
    warm = sum(state(pid) == "T" for pid in server.guests())
    files = sum(path.is_file() for place in (folder, Path("/dev/shm")) for path in place.rglob("*"))
    processes = len(server.below())
    return f"{memory_mib:.0f} MiB, {descriptors} descriptors, {processes} processes, {warm} of them warm, {files} files"


def shares(times_s: Sequence[float]) -> str:
    ordered = sorted(times_s)
    return (
        f"p50 {statistics.median(ordered):.3f} s   p95 {ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]:.3f} s"
    )


def ratio(one: list[float], other: list[float]) -> float:
    return statistics.median(one) / statistics.median(other)


def cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


async def measure(server: Serving, folder: Path, count: int, students: int, runs: int) -> None:
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    await idle(server)
    if shutil.which("chromium"):
        await seen(server, count)
    await clicks(server, count)
    await same_page(server)
    await class_of(server, students)
    await many(server, runs, folder)


def main() -> None:
    count, students, runs = (int(text) for text in (*sys.argv[1:4], *("20", "40", "500")[len(sys.argv) - 1 :]))
    with place() as folder, serving(folder) as server:
        asyncio.run(measure(server, folder, count, students, runs))


if __name__ == "__main__":
    main()
