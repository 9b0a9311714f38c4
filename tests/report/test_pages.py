"""The report in a real browser: the distribution's Chromium, driven by Playwright."""

import json
import re
import shutil

import pytest
from conftest import ROOT

from twlab.planner import plan
from twlab.report.html import page, plan_page

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture
def shown(browser, tmp_path):
    """The report over the recorded run, opened. Afterwards: nothing was complained of, and nothing
    but the file asked for.
    """
    shutil.copytree(ROOT / "tests" / "data" / "runs" / "stale-data", tmp_path / "run")
    made = page.write([tmp_path / "run"], tmp_path / "report.html")
    opened = browser.new_page()
    complaints, requests = [], []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(made.path.as_uri())
    opened.wait_for_selector("html[data-whole]")  # packed parts unpack after the page has loaded
    yield opened
    opened.close()
    assert complaints == []
    assert requests == [made.path.as_uri()]


def visible_arms(shown):
    return [
        panel.get_attribute("aria-labelledby") for panel in shown.locator("[role=tabpanel]").all() if panel.is_visible()
    ]


def test_arms_switch_by_mouse(shown):
    """One arm is shown at a time: first the treatment, then the one whose tab was pressed last."""
    assert visible_arms(shown) == ["run-1-tab-2"]
    shown.get_by_role("tab").nth(0).click()
    assert visible_arms(shown) == ["run-1-tab-1"]
    assert [tab.get_attribute("aria-selected") for tab in shown.get_by_role("tab").all()][:2] == ["true", "false"]


def test_arms_switch_by_keyboard(shown):
    """Arrow keys go round, Home and End go to the ends, and the focus goes along."""
    count = shown.get_by_role("tab").count()
    shown.get_by_role("tab").first.focus()
    for key, arm in (("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowLeft", count), ("Home", 1), ("End", count)):
        shown.keyboard.press(key)
        assert visible_arms(shown) == [f"run-1-tab-{arm}"]
        assert shown.evaluate("document.activeElement.id") == f"run-1-tab-{arm}"


def test_arms_stand_side_by_side(shown):
    """All of them, none of them out of sight; and one again after a second press."""
    beside = shown.get_by_role("button", name="side by side")
    beside.click()
    assert len(visible_arms(shown)) == shown.get_by_role("tab").count()
    assert shown.evaluate("(arms => arms.scrollWidth <= arms.clientWidth)(document.querySelector('.arms'))")
    beside.click()
    assert visible_arms(shown) == ["run-1-tab-2"]


def test_a_ladder_can_be_put_away(shown):
    """It goes and comes back, by mouse and by keyboard."""
    ladder = shown.locator("#run-1-arm-2 details.ladder")
    svg, summary = ladder.locator("svg").first, ladder.locator("> summary")
    assert svg.is_visible()
    summary.click()
    assert not svg.is_visible()
    summary.focus()
    shown.keyboard.press("Enter")
    assert svg.is_visible()


def test_on_paper_every_arm_is_there(shown):
    """What a tab hides on the screen is printed."""
    count = shown.get_by_role("tab").count()
    shown.emulate_media(media="print")
    assert len(visible_arms(shown)) == count > 1


def test_on_a_narrow_screen_nothing_is_cut_off(shown):
    """The page itself never scrolls sideways; what is wide scrolls in its own box."""
    shown.set_viewport_size({"width": 390, "height": 800})
    assert shown.evaluate("document.documentElement.scrollWidth") <= 390


def test_on_a_narrow_screen_a_ladder_stands_with_its_labels(shown):
    """Every word of it is on the screen, below its arrow; its folds open; a wide screen has the other."""
    wide, narrow = (shown.locator(f"#run-1-arm-2 {kind}") for kind in (".rungs.wide", ".rungs.narrow"))
    assert wide.is_visible() and not narrow.is_visible()
    shown.set_viewport_size({"width": 390, "height": 800})
    narrow.locator(".label").first.wait_for()
    assert not wide.is_visible()
    assert narrow.locator(".label").count() >= wide.locator(".label").count() > 10
    fold = narrow.locator("details.fold").first
    fold.locator("> summary").click()
    fold.locator("> svg .arrow").first.wait_for()
    assert narrow.evaluate(
        "place => [...place.querySelectorAll('text')].map(each => each.getBoundingClientRect())"
        ".filter(box => box.left < 0 || box.right > document.documentElement.clientWidth).length"
    ) == 0  # fmt: skip
    shown.set_viewport_size({"width": 1100, "height": 800})
    assert wide.is_visible() and not narrow.is_visible()


@pytest.mark.parametrize("width", [390, 700, 1100])
def test_no_table_runs_off_the_page(browser, tmp_path, width):
    """On a phone and on a small window: every table fits, its rows being cards where columns would
    not; every cell says what it is.
    """
    shutil.copytree(ROOT / "tests" / "data" / "runs" / "stale-data", tmp_path / "run")
    cells = [
        {"time_wait_s": length, "delay_s": age, "trials": 1, "harmed": 0, "delayed": 1, "unharmed": 0}
        for length in "159"
        for age in "12345678"
    ]
    (tmp_path / "sweep.json").write_text(json.dumps({"schema": 2, "scenario": "s", "cells": cells}))
    rows = [{"name": "a", **{f"some_column_{number}_ms": "of some length" for number in range(14)}}]
    (tmp_path / "mine.json").write_text(json.dumps({"schema": 1, "kind": "mine", "rows": rows}))
    studies = [tmp_path / "sweep.json", tmp_path / "mine.json", ROOT / "docs" / "findings" / "alternatives.json"]
    plan_page.write(plan.make(plan.Demand(rate_per_s=900)), tmp_path / "plan.html")
    made = page.write([tmp_path / "run", *studies], tmp_path / "report.html")
    opened = browser.new_page(viewport={"width": width, "height": 900})
    for address in (made.path.as_uri(), (tmp_path / "plan.html").as_uri()):
        opened.goto(address)
        opened.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.evaluate(TOO_WIDE) == []
        headings = opened.evaluate(
            "[...document.querySelectorAll('thead th, dt, caption')].map(each => each.textContent)"
        )
        assert [heading for heading in headings if re.search("[a-z]_[a-z]", heading)] == []
        if width == 390:
            assert (
                opened.evaluate("[...document.querySelectorAll('.cards td:not([data-label]):not(.scale)')].length") == 0
            )
    opened.close()


TOO_WIDE = """[...document.querySelectorAll('table')].filter(table => table.checkVisibility()).filter(table =>
    table.getBoundingClientRect().right > document.documentElement.clientWidth + 1
    || table.parentElement.scrollWidth > table.parentElement.clientWidth + 1).map(table => table.className + table.textContent.slice(0, 80))"""  # noqa: E501


def test_a_folded_transfer_unfolds(shown):
    """Opened, it has every segment below its line; closed, it is one line again. By mouse and by
    keyboard.
    """
    shown.get_by_role("tab").nth(1).click()
    fold = shown.locator("#run-1-arm-2 details.fold").first
    line, segments = fold.locator("> summary"), fold.locator("> svg .arrow")
    told = int(line.locator(".label").inner_html().split()[0])
    assert segments.count() == 0
    line.click()
    segments.first.wait_for()
    assert segments.count() == told > 10
    line.focus()
    shown.keyboard.press("Enter")
    assert not segments.first.is_visible()
    shown.keyboard.press("Enter")
    assert segments.first.is_visible() and segments.count() == told


def test_printing_opens_what_is_hidden_but_no_fold(shown):
    """Stories and settings are on paper; thousands of folded segments are not, and afterwards all
    is as it was.
    """
    closed = shown.locator("details:not(.fold):not([open])").count()
    shown.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert shown.locator("details:not(.fold):not([open])").count() == 0
    assert shown.locator("details.fold[open]").count() == 0
    shown.evaluate("dispatchEvent(new Event('afterprint'))")
    assert shown.locator("details:not(.fold):not([open])").count() == closed > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_follows_light_and_dark(browser, tmp_path, scheme):
    """Text and paper are far apart in either (WCAG 2.1, 1.4.3: 4.5 to 1), in the ladder too."""
    shutil.copytree(ROOT / "tests" / "data" / "runs" / "stale-data", tmp_path / "run")
    opened = browser.new_page(color_scheme=scheme)
    opened.goto(page.write([tmp_path / "run"], tmp_path / "report.html").path.as_uri())
    paper, *inks = opened.evaluate(
        """() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color, ...[".time", ".label", ".state text"]
             .map(name => getComputedStyle(document.querySelector("svg.ladder " + name)).fill)]"""  # noqa: E501
    )
    opened.close()
    assert all(contrast(paper, ink) >= 4.5 for ink in inks)


def contrast(one, other):
    """Of two colours as a browser tells them, ``rgb(1, 2, 3)``."""

    def luminance(colour):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_page_of_studies_alone_works(browser, tmp_path):
    """No run, no tabs: and nothing to complain of."""
    cell = {"time_wait_s": "1", "delay_s": "2", "trials": 1, "harmed": 1, "delayed": 0, "unharmed": 0}
    (tmp_path / "sweep.json").write_text(json.dumps({"schema": 2, "scenario": "s", "cells": [cell]}))
    opened = browser.new_page()
    complaints = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(page.write([tmp_path / "sweep.json"], tmp_path / "report.html").path.as_uri())
    assert opened.get_by_role("cell", name="harmed").count() == 1 and complaints == []
    opened.close()


def test_a_window_that_is_made_narrow_again_unpacks_each_ladder_once(shown):
    """While the first time is still under way, too: a page is completed and resized at one time."""
    shown.evaluate("Object.defineProperty(phone, 'matches', { value: true })")
    shown.evaluate("Promise.all([narrow(), narrow()])")
    assert shown.locator("[data-narrow]").count() == 0
    ladders = shown.locator(".rungs.narrow").all()
    assert len(ladders) > 1
    assert {ladder.locator("> svg").count() > 0 for ladder in ladders} == {True}
