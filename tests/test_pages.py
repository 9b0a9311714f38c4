"""The report in a real browser: the distribution's Chromium, driven by Playwright."""

import shutil

import pytest
from conftest import ROOT

from twlab.report import page

CHROMIUM = shutil.which("chromium")
FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"

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
    """The report over the recorded run, opened. Afterwards: nothing was complained of, and nothing but the file asked for."""
    shutil.copytree(ROOT / "tests" / "data" / "runs" / "stale-data", tmp_path / "run")
    made = page.write([tmp_path / "run"], tmp_path / "report.html")
    opened = browser.new_page()
    complaints, requests = [], []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda request: requests.append(request.url))
    opened.goto(made.path.as_uri())
    yield opened
    opened.close()
    assert complaints == []
    assert requests == [made.path.as_uri()]


def visible_arms(shown):
    return [panel.get_attribute("aria-labelledby") for panel in shown.locator("[role=tabpanel]").all() if panel.is_visible()]


def test_arms_switch_by_mouse(shown):
    """One arm is shown at a time: the one whose tab was pressed last."""
    assert visible_arms(shown) == ["run-1-tab-1"]
    shown.get_by_role("tab").nth(1).click()
    assert visible_arms(shown) == ["run-1-tab-2"]
    assert [tab.get_attribute("aria-selected") for tab in shown.get_by_role("tab").all()][:2] == ["false", "true"]


def test_arms_switch_by_keyboard(shown):
    """Arrow keys go round, Home and End go to the ends, and the focus goes along."""
    count = shown.get_by_role("tab").count()
    shown.get_by_role("tab").first.focus()
    for key, arm in (("ArrowRight", 2), ("ArrowLeft", 1), ("ArrowLeft", count), ("Home", 1), ("End", count)):
        shown.keyboard.press(key)
        assert visible_arms(shown) == [f"run-1-tab-{arm}"]
        assert shown.evaluate("document.activeElement.id") == f"run-1-tab-{arm}"


def test_arms_stand_side_by_side(shown):
    """All of them, and one again after a second press."""
    beside = shown.get_by_role("button", name="side by side")
    beside.click()
    assert len(visible_arms(shown)) == shown.get_by_role("tab").count()
    beside.click()
    assert visible_arms(shown) == ["run-1-tab-1"]


def test_ladders_fold_and_unfold(shown):
    """The ladder goes and comes back, by mouse and by keyboard."""
    ladder = shown.locator("details.ladder").first
    svg = ladder.locator("svg").first
    assert svg.is_visible()
    ladder.locator("summary").click()
    assert not svg.is_visible()
    ladder.locator("summary").focus()
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


def test_a_folded_transfer_unfolds(shown):
    """Pressed once, the ladder has every segment; pressed again, the transfer is one line."""
    shown.get_by_role("tab").nth(1).click()
    ladder = shown.locator("#run-1-arm-2 details.ladder")
    folded, unfolded, button = ladder.locator("svg.folded"), ladder.locator("svg.unfolded"), ladder.get_by_role("button")
    assert (folded.is_visible(), unfolded.is_visible()) == (True, False)
    button.click()
    assert (folded.is_visible(), unfolded.is_visible()) == (False, True)
    button.focus()
    shown.keyboard.press("Space")
    assert (folded.is_visible(), unfolded.is_visible()) == (True, False)
