"""Review in a browser: with the mouse, with the keyboard alone, by two people, and with undo."""

from __future__ import annotations

import html
import re

import httpx
import pytest
from playwright.async_api import APIRequestContext, Browser, expect

from tests.conftest import ACME
from tests.dashboard.conftest import DISPUTED, Server, Watched, watched
from tests.dashboard.test_views import check

pytestmark = pytest.mark.asyncio(loop_scope="session")

REVIEW = f"/dashboard/tenants/{ACME}/review"
ITEMS = 50


async def gold(server: Server) -> int:
    return int((await counts(server))["gold"])


async def counts(server: Server) -> dict[str, int]:
    async with httpx.AsyncClient(base_url=server.address) as client:
        found = (await client.get(f"/v1/tenants/{ACME}")).json()
    return dict(found["counts"])


async def test_a_conflict_comes_first_and_its_undo_restores_it(tab: Watched, server: Server) -> None:
    page, before = tab.page, await counts(server)
    await check(tab, REVIEW, "Review")
    await expect(page.locator("#words")).to_have_attribute("data-text", DISPUTED)
    assert before["examples"]["conflict"] == 1
    await page.keyboard.press("2")
    await expect(page.locator("#draft-state")).to_have_text("Draft saved")
    chosen = await page.locator("#intent").input_value()
    await page.reload()
    await expect(page.locator("#intent")).to_have_value(chosen)
    await expect(page.locator("#draft-state")).to_have_text("Your draft is restored")
    await page.keyboard.press("Enter")
    await expect(page.locator("#words")).not_to_have_attribute("data-text", DISPUTED)
    assert (await counts(server))["gold"] == before["gold"] + 1
    await page.keyboard.press("u")
    await expect(page.locator("#words")).to_have_attribute("data-text", DISPUTED)
    assert await counts(server) == before


async def test_spans_are_marked_by_mouse_and_by_keyboard(tab: Watched) -> None:
    page = tab.page
    await page.set_viewport_size({"width": 1440, "height": 900})
    await page.goto(f"{REVIEW}?kind=uncertain")
    words = page.locator(".token")
    await page.locator("#entity-label").fill("<b>thing")
    await words.nth(0).hover()
    await page.mouse.down()
    await words.nth(1).hover()
    await page.mouse.up()
    await page.locator("#mark").click()
    await expect(page.locator("#spans li")).to_have_count(1)
    await words.nth(1).press("ArrowRight")
    await page.keyboard.press("Shift+ArrowRight")
    await page.keyboard.press("m")
    await expect(page.locator("#spans li")).to_have_count(2)
    text = await page.locator("#words").get_attribute("data-text") or ""
    first = " ".join(text.split()[:2])
    await expect(page.locator("#spans li").first).to_contain_text(f"<b>thing: {first}")
    await expect(page.locator("#draft-state")).to_have_text("Draft saved")
    await page.reload()
    await expect(page.locator("#spans li")).to_have_count(2)
    await expect(page.locator("#spans li").first).to_contain_text(f"<b>thing: {first}")
    await expect(page.locator("#with-entities")).to_be_checked()
    for left in (1, 0):
        await page.locator("#spans li button").first.click()
        await expect(page.locator("#spans li")).to_have_count(left)
    await expect(page.locator("#draft-state")).to_have_text("Draft saved")
    await page.reload()
    await expect(page.locator("#spans li")).to_have_count(0)
    await expect(page.locator("#with-entities")).to_be_checked()
    await page.keyboard.press("i")
    await expect(page.locator("#words")).not_to_have_attribute("data-text", text)
    await page.keyboard.press("u")
    await expect(page.locator("#words")).to_have_attribute("data-text", text)


async def test_two_people_review_fifty_texts_without_meeting(
    tab: Watched, browser: Browser, server: Server
) -> None:
    before = await gold(server)
    context = await browser.new_context(base_url=server.address)
    second = await watched(context)
    try:
        people = (tab, second)
        for one in people:
            await one.page.goto(REVIEW)
        mine = await tab.page.locator("#words").get_attribute("data-text")
        await expect(second.page.locator("#words")).not_to_have_attribute("data-text", str(mine))
        items = {one: await first(one.page.request) for one in people}
        seen = []
        for one in people * (ITEMS // 2):
            seen.append(items[one])
            items[one] = await save(one.page.request, server, items[one])
        assert len(set(seen)) == ITEMS
        assert await gold(server) == before + ITEMS
        for one in people:
            undone = await post(one.page.request, server, {"decision": "undo"})
            assert undone in seen[-2:]
        assert await gold(server) == before + ITEMS - 2
        assert second.messages == []
    finally:
        await context.close()


async def first(request: APIRequestContext) -> str:
    """The id of the shown item."""
    return item_of(await (await request.get(REVIEW)).text())


async def save(request: APIRequestContext, server: Server, item: str) -> str:
    """Save an item; the id of the next one."""
    return await post(request, server, {"decision": "saved", "item": item, "intent": "balance"})


async def post(request: APIRequestContext, server: Server, form: dict[str, str]) -> str:
    """Send a form; the id of the item on the next page."""
    answer = await request.post(REVIEW, form=form, headers={"Origin": server.address})
    text = await answer.text()
    assert answer.ok, text
    return item_of(text)


def item_of(page: str) -> str:
    return html.unescape(re.findall(r'name="item" value="([^"]+)"', page)[0])
