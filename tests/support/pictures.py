"""Takes the pictures of docs/guides/browser.md anew.

.venv/bin/python tests/support/pictures.py docs/guides
"""

import shutil
import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]  # conftest

from playwright.sync_api import Page, sync_playwright  # noqa: E402
from serving import CHROMIUM_FLAGS, place, serving  # noqa: E402

WIDTH, LONGEST = 1100, 1560  # CSS pixels: of the pictures, and of a page that goes on


def take(page: Page, folder: Path) -> None:
    """Fill in the form of stale-data, run it, and write a picture of either page."""
    page.goto("/scenario/stale-data")
    page.fill("[name='set.time_wait_s']", "2")
    page.check("input[name='fact.reopened'][value=yes]")
    page.fill("[name='fact.foreign_bytes']", "0")
    page.screenshot(path=folder / "browser-scenario.png", full_page=True)
    page.get_by_role("button", name="Run it").click()
    page.wait_for_selector(".outcome ~ section.run")
    clip = {"x": 0, "y": 0, "width": WIDTH, "height": LONGEST}
    page.screenshot(path=folder / "browser-run.png", full_page=True, clip=clip)  # type: ignore[arg-type]


def main() -> None:
    chromium = shutil.which("chromium")
    with sync_playwright() as playwright, place() as state, serving(state) as server:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_FLAGS))
        page = browser.new_page(base_url=server.url, viewport={"width": WIDTH, "height": 900})
        page.set_default_timeout(300_000)
        take(page, Path(sys.argv[1]))
        browser.close()


if __name__ == "__main__":
    main()
