"""The control room as a student, an instructor or an engineer on call uses it."""

import os
import re
import signal

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from tests.support.chromium import PHONE
from tests.support.cluster import Cluster

SERIOUS = {"serious", "critical"}


async def press(page: Page, name: str) -> None:
    """Press the button of this name."""
    await page.get_by_role("button", name=name, exact=True).click()


async def test_fail_over_is_seen_when_the_leader_is_killed_by_its_button(page: Page, cluster: Cluster) -> None:
    leader = await cluster.leader()
    sentence, failed = page.locator("#sentence"), page.locator(f"#card-{leader}")

    await page.get_by_label("what").select_option("buy")
    await press(page, "Send")
    await expect(page.locator("#call-answer")).to_contain_text("HTTP/1.1 201 Created")

    await press(page, f"Kill {leader}")
    await expect(failed).to_have_attribute("data-look", "down")
    await expect(sentence).to_contain_text(f"Degraded: {leader} is down.")
    await expect(sentence).to_contain_text("2 of 3 replicas are caught up")
    await expect(sentence).not_to_contain_text(f"{leader} leads")
    await expect(page.locator("#fail-over")).to_contain_text(f"{leader} to ")
    other = await cluster.leader()
    assert other != leader
    await expect(page.locator(f"#card-{other} .state")).to_contain_text("leads")

    await press(page, "Send")
    await expect(page.locator("#call-answer")).to_contain_text("HTTP/1.1 201 Created")
    chain = page.locator("#events li", has_text=f"{other} leads now: {leader} was killed").first
    for step in ("killed", "noticed +", "selected +", "first trade +"):
        await expect(chain.locator(".chain")).to_contain_text(step)

    await press(page, f"Start {leader}")
    await expect(sentence).to_have_text(f"Healthy: {other} leads, 3 of 3 replicas are caught up.")
    await expect(failed.locator(".state")).to_have_text("running, caught up")
    await expect(page.locator("#events li", has_text=f"{leader} has caught up").first).to_be_visible()


async def test_customer_sees_the_raw_request_and_answer(page: Page) -> None:
    request, answer = page.locator("#call-request"), page.locator("#call-answer")

    await press(page, "Send")
    await expect(request).to_contain_text("GET /stocks/GameStart HTTP/1.1")
    await expect(answer).to_contain_text("x-cache: ")

    await page.get_by_label("what").select_option("sell")
    await page.get_by_label("quantity").fill("2")
    await page.get_by_label("key (optional)").fill("a-key-of-the-browser")
    await press(page, "Send")
    await expect(request).to_contain_text('{"name": "GameStart", "type": "sell", "quantity": 2}')
    await expect(answer).to_contain_text("201 Created")
    await press(page, "Send")
    await expect(answer).to_contain_text("idempotency-replayed: true")

    await page.get_by_label("what").select_option("order")
    await press(page, "Send")
    await expect(answer).to_contain_text('"type":"sell","quantity":2')

    await page.get_by_label("number").fill("999999")
    await press(page, "Send")
    await expect(answer).to_contain_text("404 Not Found")


async def test_cache_is_emptied_and_off_when_it_is_switched_off(page: Page) -> None:
    await press(page, "Send")
    entries = page.locator(".entries li")
    await expect(entries.filter(has_text="GameStart")).to_be_visible()
    await press(page, "Turn off the cache of front-end-1")
    await expect(page.locator(".cache-state")).to_contain_text("off: every look-up asks the catalog")
    await expect(entries).to_have_count(0)
    await press(page, "Send")
    await expect(page.locator("#call-answer")).to_contain_text("x-cache: off")
    await press(page, "Turn on the cache of front-end-1")
    await expect(page.locator(".cache-state")).to_have_text("on")


async def test_load_runs_and_its_verdict_is_shown(page: Page) -> None:
    state = page.locator("#load-state")
    await page.get_by_label("clients").fill("2")
    await press(page, "Start")
    await expect(state).to_contain_text("Running: 2 clients")
    await expect(page.locator("#events li", has_text="load started: 2 clients")).to_be_visible()
    await expect(page.locator("#rate-key span.trade")).to_have_text(re.compile("trade .*[1-9]"))
    await press(page, "Stop")
    await expect(state).to_contain_text("0 wrong, 0 errors. All is well.")


async def test_page_goes_grey_and_says_so_when_the_supervisor_is_silent_and_recovers(
    page: Page, cluster: Cluster
) -> None:
    supervisor = (await cluster.status()).supervisor
    assert supervisor is not None
    os.kill(supervisor, signal.SIGSTOP)
    try:
        await expect(page.locator("#silence")).to_contain_text("No data for")
        await expect(page.locator("body")).to_have_class("silent")
    finally:
        os.kill(supervisor, signal.SIGCONT)
    await expect(page.locator("#silence")).to_be_hidden()
    await expect(page.locator("#sentence")).to_contain_text("Healthy")


async def test_page_is_at_work_again_when_the_bazaar_was_stopped_and_started(
    browser: Browser, cluster: Cluster
) -> None:
    page = await browser.new_page()  # of its own: a refused connection is an error on its console
    await page.goto(cluster.topology.control)
    await expect(page.locator("#sentence")).to_contain_text("Healthy")
    await cluster.shut_down()
    await expect(page.locator("body")).to_have_class("silent")
    await cluster.start_up()
    await expect(page.locator("#silence")).to_be_hidden()
    await expect(page.locator("#sentence")).to_contain_text("Healthy")
    await press(page, "Pause order-1")  # the page has learned the token of the new run
    await expect(page.locator("#card-order-1")).to_have_attribute("data-look", "paused")
    await press(page, "Resume order-1")
    await expect(page.locator("#card-order-1")).to_have_attribute("data-look", "level")
    await page.close()


async def test_replicas_are_said_to_wait_when_the_catalog_is_down(page: Page, cluster: Cluster) -> None:
    leader = await cluster.leader()
    await press(page, "Kill catalog")
    await expect(page.locator("#card-catalog .note")).to_have_text("killed by the operator")
    await expect(page.locator("#sentence")).to_contain_text("whether the replicas are caught up is not known")
    await expect(page.locator(f"#card-{leader} .state")).to_have_text("leads, waits for the catalog")
    await press(page, "Start catalog")
    await expect(page.locator("#status")).to_have_attribute("data-condition", "healthy")


async def test_button_is_reached_and_keeps_the_focus_when_only_the_keyboard_is_used(
    page: Page, cluster: Cluster
) -> None:
    leader = await cluster.leader()
    name = next(each for each in ("order-1", "order-2") if each != leader)
    for _ in range(60):
        await page.keyboard.press("Tab")
        if await page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Pause {name}":
            break
    await page.keyboard.press("Enter")
    await expect(page.locator(f"#card-{name}")).to_have_attribute("data-look", "paused")
    assert await page.evaluate("document.activeElement.getAttribute('aria-label')") == f"Pause {name}"
    await page.keyboard.press("Tab")
    await page.keyboard.press("Space")
    await expect(page.locator(f"#card-{name}")).to_have_attribute("data-look", re.compile("level|leader"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("is_phone", [False, True])
async def test_accessibility_check_finds_nothing_serious(
    page: Page, cluster: Cluster, scheme: str, is_phone: bool
) -> None:
    await page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    if is_phone:
        await page.set_viewport_size(PHONE)
    leader = await cluster.leader()
    down, paused = sorted({"order-1", "order-2", "order-3"} - {leader})
    await press(page, "Send")
    await expect(page.locator("#call-answer")).to_contain_text("HTTP/1.1 200")
    for condition in ("healthy", "degraded"):
        await expect(page.locator("#status")).to_have_attribute("data-condition", condition)
        found = (await Axe().run(page)).response["violations"]
        told = [(each["id"], each["impact"], [node["html"][:200] for node in each["nodes"]]) for each in found]
        assert not [each for each in told if each[1] in SERIOUS], told
        if condition == "healthy":
            await press(page, f"Kill {down}")
            await press(page, f"Pause {paused}")
            await expect(page.locator(f"#card-{paused}")).to_have_attribute("data-look", "paused")
    await press(page, f"Start {down}")
    await press(page, f"Resume {paused}")
    await expect(page.locator("#status")).to_have_attribute("data-condition", "healthy")


async def test_nothing_is_wider_than_the_screen_when_it_is_a_phones(page: Page) -> None:
    await page.set_viewport_size(PHONE)
    await page.reload()
    await expect(page.locator("#sentence")).to_contain_text("Healthy")
    await expect(page.locator("#timeline svg")).to_be_visible()
    assert await page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


async def test_two_pages_show_the_same(page: Page) -> None:
    other = await page.context.new_page()
    await other.goto(page.url)
    text = await page.locator("#sentence").text_content()
    assert text is not None
    await expect(other.locator("#sentence")).to_have_text(text)
