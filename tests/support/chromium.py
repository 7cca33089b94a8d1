"""Debian's Chromium, driven by Playwright, which downloads no browser of its own."""

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Browser, ViewportSize, async_playwright

MISSING = "there is no chromium on this machine; on Debian: apt-get install chromium"
DESKTOP: ViewportSize = {"width": 1440, "height": 1000}
PHONE: ViewportSize = {"width": 390, "height": 844}


def find_chromium() -> str | None:
    """Where it is, None where there is none."""
    return shutil.which("chromium")


@asynccontextmanager
async def chromium(path: str) -> AsyncIterator[Browser]:
    """The browser at `path`, without a window, until the end of the body."""
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []  # the sandbox does not work for root
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield browser
        finally:
            await browser.close()
