"""`twlab serve` with lab kernels and a real browser: from the click to the verdict."""

import re
import shutil
import subprocess
import sys
from itertools import pairwise
from urllib.parse import urlsplit

import pytest
from conftest import ROOT
from leftovers import wait_for
from serving import CHROMIUM_FLAGS, place, serving

CHROMIUM = shutil.which("chromium")
WIDTHS = (390, 1100, 1600)
SOON_MS = 300_000  # generous: the machine may be busy

pytestmark = [pytest.mark.guest, pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")]


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server():
    with place() as folder, serving(folder) as under_way:
        yield under_way


@pytest.fixture
def visit(browser, server):
    """Opens pages of the server, each for a visitor of his own. Afterwards: the console said
    nothing, and no other host was asked for anything.
    """
    contexts, complaints, asked = [], [], []

    def opened(path, **options):
        context = browser.new_context(base_url=server.url, **options)
        context.set_default_timeout(SOON_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(f"{page.url}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert {urlsplit(url).netloc for url in asked if not url.startswith("data:")} <= {urlsplit(server.url).netloc}


def run(page, arm="", predict=None, **knobs):
    """Fill in a scenario's form, send it, and wait for the verdict and the whole page."""
    if arm:
        page.check(f"input[name=arm][value={arm}]")
    for name, value in knobs.items():
        page.fill(f"[name='set.{name}']", value)
    for fact, value in (predict or {}).items():
        if value in ("yes", "no"):
            page.check(f"input[name='fact.{fact}'][value={value}]")
        else:
            page.fill(f"[name='fact.{fact}']", value)
    page.get_by_role("button", name="Run it").click()
    page.wait_for_selector(".outcome ~ section.run")
    return page.locator(".outcome").last.inner_text()  # beside another run it is the second


FIRST_OUTCOME = """
new MutationObserver((_, observer) => {
  const outcome = document.querySelector(".outcome");
  if (outcome?.nextElementSibling) { window.first = outcome.outerHTML; observer.disconnect(); }
}).observe(document, { subtree: true, childList: true });
"""


def test_from_the_click_to_the_verdict(visit, server):
    """Predicted first; the verdict beside the prediction before all else, and as it stays; the
    ladder; the same link shows the same run again, to another visitor from the store.
    """
    server.wait_until_warm()
    page = visit("/scenario/stale-data")
    page.add_init_script(FIRST_OUTCOME)
    outcome = run(page, predict={"reopened": "yes", "foreign_bytes": "0"})
    assert "SUPPORTED" in outcome and "foreign bytes 400" in outcome
    first, last = page.evaluate("[window.first, document.querySelector('.outcome').outerHTML]")
    page.reload()
    assert first == last == page.locator(".outcome").evaluate("one => one.outerHTML")
    assert page.locator("tr.right").count() == 1 and page.locator(".outcome tr.wrong").count() == 1
    ladder = page.locator("[role=tabpanel]:not([hidden]) .rungs.wide")
    assert ladder.is_visible() and "copied by the wire" in ladder.inner_html()
    again = visit(urlsplit(page.url).path)
    assert "From the store" in again.locator(".outcome").inner_text()
    shown = [re.sub(r"(?s)Run\s+\S+, .*", "", each.locator("section.run").inner_html()) for each in (page, again)]
    assert shown[0] == shown[1]


def test_the_run_is_shown_while_it_goes_on(visit):
    """Steps with the lab's time and the wall's come over the stream of events, and a ladder."""
    page = visit("/scenario/stale-data")
    events = []
    page.on("response", lambda answer: events.append(answer) if answer.url.endswith("/events") else None)
    run(page, arm="all", time_wait_s="7")
    text = page.request.get(events[0].url).text()
    assert text.count('"event": "start"') == 7 and '"event": "over"' in text
    assert '"kind": "step"' in text and '"real_s"' in text and '"svg": "<svg' in text
    assert text.index('"event": "verdict"') < text.index('"event": "over"')


def test_the_knobs_turn_the_control_where_it_is_the_arm_that_was_chosen(visit):
    """Beside another arm it stays as it is."""
    page = visit("/scenario/stale-data")
    assert "reopened yes" in run(page, arm="control", time_wait_s="1")
    page.goto("/scenario/stale-data")
    run(page, arm="treatment", time_wait_s="1.5")
    assert "TIME-WAIT 1.5 s" not in page.locator("[role=tabpanel]").first.text_content()


def test_warm_guests_give_the_same_answer_to_the_byte(tmp_path):
    """How long a guest has waited for its request makes no difference to what it does, nor how late it
    was stopped.
    """
    script = """if True:
        import hashlib, json, sys, time
        from pathlib import Path
        from twlab.engines.guest.engine import Guest
        from twlab.engines.guest.process import GuestProcess
        stop = GuestProcess.stop
        guest = Guest(agent="twlab.web.agent", memory_mib=320, processor_s=60)
        job = {"source": "stale-data", "arm": "treatment", "folder": "/run", "set": {}}
        for late_s, parked_s in ((0, 0), (0, 0.4), (2, 0)):
            GuestProcess.stop = lambda self: (time.sleep(late_s), stop(self))
            with guest.warm(Path(sys.argv[1]), 1, 60) as warm:
                time.sleep(parked_s)
                events = []
                warm.run({"jobs": [job], "seed": 1, "engine": "guest", "mechanisms": {}}, events.append, 60)
            print(hashlib.sha256(json.dumps(events).encode()).hexdigest())
    """
    said = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "log")], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert len(said) == 3 and len(set(said)) == 1


def test_by_keyboard_alone(visit, server):
    """The skip link, the form, the button: all are reached by Tab, in order, and seen when they
    are.
    """
    page = visit("/scenario/stale-segment")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.name || document.activeElement.className"))
        if page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "none":
            raise AssertionError(f"no focus is seen at {seen[-1]}")
        if seen[-1] == "set.time_wait_s":
            page.keyboard.type("2")
        if seen[-1] == "go":
            break
    assert seen.index("arm") < seen.index("set.time_wait_s") < seen.index("fact.harmed") < seen.index("go")
    page.keyboard.press("Enter")
    page.wait_for_selector(".outcome")
    assert "time_wait_s=2" in page.locator(".order-of").inner_text()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_at_every_width(visit, scheme):
    """Nothing is cut off, every field has a name, text and paper are far apart, on a phone and on
    a wide screen.
    """
    page = visit("/scenario/stale-data", color_scheme=scheme)
    run(page)
    link = urlsplit(page.url).path
    page.goto("/class")
    page.get_by_role("button", name="Open the class").click()
    page.wait_for_selector(".code")
    for path in (
        urlsplit(page.url).path,
        "/",
        "/scenario/port-exhaustion",
        link,
        f"/beside/{link[5:]}/{link[5:]}",
        "/how-low",
        "/proxy",
        "/class",
    ):
        page.goto(path)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, (path, width)
        assert page.evaluate(NAMELESS) == [], path
        assert page.locator("h1").count() == 1 and page.locator("main").count() == 1
        paper, ink = page.evaluate(
            "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        assert (
            (int(re.findall(r"\d+", paper)[0]) > 200) == (scheme == "light") == (int(re.findall(r"\d+", ink)[0]) < 90)
        )


NAMELESS = """[...document.querySelectorAll('input:not([type=hidden]), select, textarea, button, a')].filter(each =>
    !(each.labels && each.labels.length) && !each.getAttribute('aria-label') && !each.textContent.trim()).map(each => each.outerHTML)"""  # noqa: E501


def test_what_a_screen_reader_finds(visit):
    """On every page: the same landmarks, one title, headings that skip no level, and a name for
    all that can be reached or is drawn.
    """
    page = visit("/scenario/stale-data")
    run(page, predict={"reopened": "yes"})
    link = urlsplit(page.url).path
    check_tree(page)
    for path in (
        "/",
        "/scenario/nat-leak",
        f"/beside/{link[5:]}/{link[5:]}",
        "/how-low",
        "/proxy",
        "/class",
    ):
        page.goto(path)
        check_tree(page)
    page.goto("/class")
    page.get_by_role("button", name="Open the class").click()
    page.wait_for_selector(".code")
    check_tree(page)


def check_tree(page):
    """Check the accessibility tree as Chromium hands it to screen readers."""
    tree = page.context.new_cdp_session(page).send("Accessibility.getFullAXTree")["nodes"]
    nodes = [
        (node["role"]["value"], node.get("name", {}).get("value", ""), properties(node))
        for node in tree
        if not node["ignored"]
    ]
    roles = [role for role, _, _ in nodes]
    assert [roles.count(role) for role in ("banner", "main", "contentinfo")] == [1, 1, 1], page.url
    assert [name for role, name, _ in nodes if role == "navigation"] == ["Pages"]
    levels = [about["level"] for role, _, about in nodes if role == "heading"]
    assert levels[0] == 1 and levels.count(1) == 1, page.url
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels)), (page.url, levels)
    assert [(role, about) for role, name, about in nodes if role in NAMED and not name] == [], page.url
    assert page.title().startswith("twlab")


def properties(node):
    return {each["name"]: each["value"].get("value") for each in node.get("properties", [])}


NAMED = (
    *("link", "button", "textbox", "radio", "checkbox", "slider", "spinbutton", "combobox", "tab", "tabpanel", "meter"),
    *("heading", "region", "tablist", "radiogroup", "image", "img", "log", "columnheader", "rowheader"),
)


def test_what_a_screen_reader_says(visit):
    """While a run goes on: where it waits, its arms, its steps; then the verdict. Never the clocks,
    never the ladder. Where sliders move: the answer, in one sentence.
    """
    page = visit("/scenario/stale-data")
    page.add_init_script(RECORD)
    run(page, arm="treatment", time_wait_s="0.9")
    page.wait_for_selector("#said:not(:empty)", state="attached")
    said = page.evaluate("window.said")
    assert [text for text in said if text.startswith("It runs: ")] == ["It runs: control.", "It runs: treatment."]
    assert sum("treatment: The client opens the same four-tuple again" in text for text in said) == 1
    assert said[-1].startswith("SUPPORTED") and "<svg" not in str(said)
    assert not [text for text in said if re.fullmatch(r"[0-9.]+ s", text)]
    for path, name, words in (("/proxy", "time_wait_s", "suffice"), ("/how-low", "delay_s", "Connections harmed")):
        page.goto(path)
        page.fill(f"#{name}", "20")
        page.wait_for_selector("#said:not(:empty)", state="attached")
        [text] = page.evaluate("window.said")
        assert words in text and len(text) < 400


RECORD = """
window.said = [];
new MutationObserver(changes => {
  for (const change of changes) {
    const place = change.target.nodeType === Node.TEXT_NODE ? change.target.parentElement : change.target;
    const live = place?.closest?.("[role=status], [role=log], [aria-live=polite], [aria-live=assertive]");
    if (!live) continue;
    for (const node of change.addedNodes) window.said.push(node.textContent.trim());
  }
}).observe(document, { subtree: true, childList: true, characterData: true });
"""


def test_a_class_in_three_browsers(visit):
    """The teacher's page counts, the students' phones show the distribution and the run by
    themselves.
    """
    teacher = visit("/class")
    teacher.get_by_role("button", name="Open the class").click()
    code = teacher.locator(".code").inner_text()
    students = []
    for number in range(2):
        student = visit("/class", viewport={"width": 390, "height": 800})
        student.fill("#code", code)
        student.fill("#nickname", f"student {number}")
        student.get_by_role("button", name="Join").click()
        student.check("input[name='fact.reopened'][value=yes]")
        student.get_by_role("button", name="That is my prediction").click()
        student.wait_for_selector(".notice")
        students.append(student)
    asked = []
    students[0].on("request", lambda request: asked.append(request.url))
    late = visit("/class")
    late.fill("#code", code)
    late.fill("#nickname", "late")
    late.get_by_role("button", name="Join").click()
    assert wait_for(lambda: "3 joined" in teacher.locator("[data-counts]").inner_text(), 30)
    assert asked == [], "the counts are the teacher's alone"
    assert wait_for(lambda: "2 predicted" in teacher.locator("[data-counts]").inner_text(), 30)
    teacher.get_by_role("button", name="Close the predictions").click()
    for page in (*students, teacher):
        page.wait_for_selector(".outcome")
        assert "2 of 2" in page.locator(".bars").first.inner_text()
    assert "You said" in students[0].locator(".outcome").inner_text()


HIDDEN = """
Object.defineProperty(Document.prototype, "hidden", { get: () => window.away, configurable: true });
window.leave = () => { window.away = true; document.dispatchEvent(new Event("visibilitychange")); };
window.come = () => { window.away = false; document.dispatchEvent(new Event("visibilitychange")); };
"""


def test_pages_that_are_not_seen_take_no_connection(visit):
    """A browser has six to a server: with seven classes open, each page is loaded, and the one that
    is seen again has what it missed.
    """
    first = visit("/class")
    classes = [first, *(first.context.new_page() for _ in range(6))]
    for page in classes:
        page.add_init_script(HIDDEN)
        page.goto("/class")
        page.get_by_role("button", name="Open the class").click()
        page.wait_for_selector(".code")
        page.evaluate("leave()")
    code = first.locator(".code").inner_text()
    student = visit("/class")
    student.fill("#code", code)
    student.fill("#nickname", "ada")
    student.get_by_role("button", name="Join").click()
    student.wait_for_selector("form.predict")
    assert "0 joined" in first.locator("[data-counts]").inner_text()
    first.evaluate("come()")
    assert wait_for(lambda: "1 joined" in first.locator("[data-counts]").inner_text(), 30)


def test_who_looks_away_sees_each_step_once(visit):
    """A stream that is connected again tells all from the beginning."""
    page = visit("/scenario/stale-data")
    page.add_init_script(HIDDEN)
    page.add_init_script(SECOND_LOOK)
    run(page, arm="all", time_wait_s="8")
    seen = page.evaluate("window.seen")
    assert page.evaluate("window.looked") and len(seen) > 7 and len(set(seen)) == len(seen)


SECOND_LOOK = """
window.seen = [];
addEventListener("DOMContentLoaded", () => new MutationObserver(() => {
  const steps = [...document.querySelectorAll("[data-story] li")].map(one => one.textContent);
  if (steps.length > window.seen.length) window.seen = steps;
  if (steps.length > 3 && !window.looked) { window.looked = true; leave(); setTimeout(come); }
}).observe(document.body, { subtree: true, childList: true }));
"""


def test_a_number_out_of_range_leaves_the_page_as_it_is(browser, server):
    """The answer says so in its place; the address stays that of the last good numbers."""
    with browser.new_context(base_url=server.url) as context:
        context.set_default_timeout(SOON_MS)
        page = context.new_page()
        for path, into, name, good, bad in (
            ("/how-low", "#curve", "window", "65536", "2"),
            ("/proxy", "#plan", "time_wait_s", "30", "0"),
        ):
            page.goto(path)
            page.fill(f"#{name}", good)
            page.wait_for_url(f"**{name}={good}*")
            page.fill(f"#{name}", bad)
            page.wait_for_selector(f"{into} > p.wrong")
            assert page.locator("h1").count() == 1 and f"{name}={good}" in page.url
            page.reload()
            assert page.locator("input[type=range]").count() > 3


def test_the_third_handout_in_the_browser(visit):
    """From top to bottom, as a student goes: predicts the three cases and runs them, looks at the
    ladder, makes it fail, counts luck, finds the hole, answers the questions.
    """
    page = visit("/")
    page.get_by_role("link", name="Start here").click()
    for arm, said, wrong in (
        ("control", {"reopened": "no", "foreign_bytes": "0"}, 0),
        ("treatment", {"reopened": "yes", "foreign_bytes": "0"}, 1),
        ("timestamps", {"reopened": "yes", "foreign_bytes": "0"}, 0),
    ):
        run(page, arm=arm, predict=said)
        assert page.locator(".outcome tr.wrong").count() == wrong, arm
        if arm == "treatment":
            ladder = page.locator("[role=tabpanel]:not([hidden]) .rungs.wide").text_content()
            assert "copy of #" in ladder and "TIME-WAIT 1 s" in ladder and "(gone)" in ladder
        page.get_by_role("link", name="Turn another knob").click()
    page.go_back()
    page.get_by_role("link", name="Put another run beside it").click()
    run(page, arm="treatment", time_wait_s="60")
    page.locator(".outcome").nth(1).wait_for()
    assert "/beside/" in page.url and page.locator(".outcome .REFUTED").count() == 1
    page.goto("/scenario/stale-data-unrelated-isn")
    assert "as theory yes" in run(page, arm="sequence")
    page.goto("/scenario/stale-data")
    assert "foreign bytes 400" in run(page, arm="timestamp-lost")
    page.goto("/how-low")
    page.get_by_role("button", name="run TIME_WAIT 1 s, segment 5 s late").click()
    page.wait_for_selector(".outcome ~ section.run")  # by then it is in the store
    page.goto("/how-low")
    assert page.get_by_role("link", name="harmed").count() == 1
    for arm, knobs, harmed in (("timestamps-in-full", {}, 0), ("treatment", {"time_wait_s": "1"}, 10)):
        page.goto("/scenario/stale-segment")
        assert f"harmed {harmed};" in run(page, arm=arm, delay_s="3", trials="10", **knobs)
