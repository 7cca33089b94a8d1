"""A real bazaar and a real browser: Debian's Chromium, driven by Playwright; without one these tests are skipped.

Tests share the bazaar and the browser. Each has a page of its own, and leaves every service running.
"""

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.support.chromium import DESKTOP, MISSING, chromium, find_chromium
from tests.support.cluster import Cluster
from tests.support.patience import PATIENCE_S

HERE = Path(__file__).parent
HEALTHY = re.compile(r"Healthy: order-\d leads, 3 of 3 replicas are caught up\.")

expect.set_options(timeout=1_000 * PATIENCE_S)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder needs a browser, and runs in one event loop."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Chromium, without a window."""
    path = find_chromium()
    if path is None:
        pytest.skip(MISSING)
    async with chromium(path) as started:
        yield started


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> AsyncIterator[Cluster]:
    """A bazaar of 3 replicas and 1 front-end."""
    async with Cluster(tmp_path_factory.mktemp("browser") / "data") as made:
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def page(cluster: Cluster, browser: Browser) -> AsyncIterator[Page]:
    """The control room, with its first news. At the end nothing may have gone wrong in the page."""
    context = await browser.new_context(viewport=DESKTOP, reduced_motion="reduce")
    context.set_default_timeout(1_000 * PATIENCE_S)
    problems: list[str] = []
    made = await context.new_page()
    made.on("pageerror", lambda error: problems.append(str(error)))
    made.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    await made.goto(cluster.topology.control)
    # Which one leads may still change after what the test before has done, on a machine that is busy at any time.
    await expect(made.locator("#sentence")).to_have_text(HEALTHY)
    yield made
    await context.close()
    assert not problems
