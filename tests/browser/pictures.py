"""Takes the pictures of the control room that the documents show, of a real bazaar under load.

.venv/bin/python -m tests.browser.pictures [FOLDER]

control-room.png            all is well
control-room-fail-over.png  the leader was killed a moment ago
control-room-dark.png       the same bazaar later, by night
control-room-phone.png      the top of the page on a phone
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Browser, Page, expect

from tests.support.chromium import DESKTOP, MISSING, PHONE, chromium, find_chromium
from tests.support.cluster import Cluster
from tests.support.patience import PATIENCE_S

QUIET_S = 5.0
UNDER_LOAD_S = 40.0
AFTERWARDS_S = 6.0


async def take_pictures(folder: Path) -> None:
    """Start a bazaar of its own, put it under load, break it, and look."""
    path = find_chromium()
    if path is None:
        sys.exit(MISSING)
    with tempfile.TemporaryDirectory() as data:
        async with Cluster(Path(data) / "data") as cluster, chromium(path) as browser:
            await _tell_the_story(browser, cluster, folder)


async def _tell_the_story(browser: Browser, cluster: Cluster, folder: Path) -> None:
    expect.set_options(timeout=1_000 * PATIENCE_S)
    page = await browser.new_page(viewport=DESKTOP)
    await page.goto(cluster.topology.control)
    await expect(page.locator("#status")).to_have_attribute("data-condition", "healthy")
    await asyncio.sleep(QUIET_S)
    await page.locator("#load-form").get_by_label("seconds").fill("300")
    await page.locator("#load-form").get_by_role("button", name="Start").click()
    await page.get_by_label("what").select_option("buy")
    await page.get_by_role("button", name="Send").click()
    await asyncio.sleep(UNDER_LOAD_S)
    await _shoot(page, folder / "control-room.png")
    await _press(page, "Kill order-3")
    await asyncio.sleep(AFTERWARDS_S)
    await _shoot(page, folder / "control-room-fail-over.png")
    await _press(page, "Start order-3")
    await expect(page.locator("#status")).to_have_attribute("data-condition", "healthy")
    await asyncio.sleep(AFTERWARDS_S)
    await _press(page, "Pause order-1")
    await asyncio.sleep(AFTERWARDS_S)
    await _press(page, "Resume order-1")
    await page.emulate_media(color_scheme="dark")
    await asyncio.sleep(3 * AFTERWARDS_S)
    await _shoot(page, folder / "control-room-dark.png")
    await page.emulate_media(color_scheme="light")
    await page.set_viewport_size(PHONE)
    await asyncio.sleep(AFTERWARDS_S)
    await page.screenshot(path=folder / "control-room-phone.png")


async def _press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).click()


async def _shoot(page: Page, path: Path) -> None:
    await page.screenshot(path=path, full_page=True)


if __name__ == "__main__":
    asyncio.run(take_pictures(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")))
