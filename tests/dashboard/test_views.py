"""Every view in a browser: accessible in light and dark, narrow and wide, without errors and other hosts."""

from __future__ import annotations

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page, expect

from tests.conftest import ACME
from tests.dashboard.conftest import ATTACK, OTHER, Server, Watched, watched

pytestmark = pytest.mark.asyncio(loop_scope="session")

VIEWS = {
    "quality": "Quality over time",
    "cycles": "Cycles",
    "versions": "Versions",
    "versions/compare?a=v0001&b=v0002": "v0001 and v0002",
    "why": "Why a cycle began, or why not",
    "incidents": "Incidents",
    "incidents/incident61636d65": "Latency",
    "strategies": "Strategies and costs",
    "topics": "Topics",
    "topics/turns?intent=balance": "Turns: balance",
    "data": "Data and contributors",
    "improvements": "Improvements and reports",
    "week": "What it did this week, and whether it helped",
    "audit": "Audit",
}
CONTRAST = {"runOnly": ["color-contrast"], "resultTypes": ["violations"]}


async def violations(page: Page, options: dict[str, object] | None = None) -> str:
    found = await Axe().run(page, options=options or {"resultTypes": ["violations"]})
    return "" if not found.violations_count else found.generate_report()


async def is_too_wide(page: Page) -> bool:
    return bool(await page.evaluate("document.documentElement.scrollWidth > innerWidth"))


async def check(tab: Watched, path: str, shown: str) -> None:
    """Look at a page in all forms."""
    page = tab.page
    await page.emulate_media(color_scheme="light", reduced_motion="reduce")
    await page.set_viewport_size({"width": 1440, "height": 900})
    await page.goto(path)
    await expect(page.locator("h1")).to_have_text(shown)
    assert await violations(page) == ""
    assert not await is_too_wide(page)
    await page.set_viewport_size({"width": 360, "height": 800})
    assert not await is_too_wide(page), "the page scrolls sideways at 360 px"
    assert await violations(page) == ""
    await page.emulate_media(color_scheme="dark")
    assert await violations(page, CONTRAST) == ""
    assert not await tab.is_attacked()


@pytest.mark.parametrize(("view", "title"), VIEWS.items())
async def test_a_view_is_accessible_and_runs_no_text(tab: Watched, view: str, title: str) -> None:
    await check(tab, f"/dashboard/tenants/{ACME}/{view}", title)


async def test_a_verdict_shows_gates_and_flips(tab: Watched) -> None:
    await tab.page.goto(f"/dashboard/tenants/{ACME}/cycles")
    address = await tab.page.locator("table.rows tbody th a").first.get_attribute("href")
    await tab.page.goto(str(address))
    await check(tab, str(address), await tab.page.locator("h1").inner_text())
    await expect(tab.page.locator(".gates > li").first).to_be_visible()


async def test_a_chart_is_drawn_and_has_a_table(tab: Watched) -> None:
    await tab.page.goto(f"/dashboard/tenants/{ACME}/quality")
    chart = tab.page.locator("figure.chart").first
    await expect(chart.locator("canvas")).to_be_visible()
    await chart.locator("summary").press("Enter")
    await expect(chart.locator("details table")).to_be_visible()


async def test_pages_are_used_with_the_keyboard_alone(tab: Watched) -> None:
    page = tab.page
    await page.goto(f"/dashboard/tenants/{ACME}/quality")
    await page.keyboard.press("Tab")
    await expect(page.locator(".skip")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#main")).to_be_focused()
    await page.locator("nav a", has_text="Cycles").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_have_text("Cycles")
    await page.locator("#theme").focus()
    await page.keyboard.press("Space")
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    await page.reload()
    await expect(page.locator("html")).to_have_attribute("data-theme", "dark")


async def test_the_list_of_tenants_and_an_unknown_tenant(tab: Watched) -> None:
    await tab.page.goto("/dashboard")
    await expect(tab.page.locator("h1")).to_have_text("Tenants")
    assert await violations(tab.page) == ""
    assert not await tab.is_attacked()
    found = await tab.page.request.get("/dashboard/tenants/nobody/quality")
    assert (found.status, "Not found" in await found.text()) == (404, True)


async def test_a_rollback_is_shown_in_a_second_browser(
    tab: Watched, browser: Browser, server: Server
) -> None:
    context = await browser.new_context(base_url=server.address)
    second = await watched(context)
    try:
        await second.page.goto(f"/dashboard/tenants/{ACME}/versions")
        await expect(second.page.locator("#live-state")).to_have_attribute("data-state", "live")
        for before, after in (("v0002", "v0001"), ("v0001", "v0002")):
            await expect(second.page.locator(".serving")).to_have_text(before)
            await roll_back(tab.page, after)
            await expect(second.page.locator(".serving")).to_have_text(after, timeout=15_000)
            current = second.page.locator(".timeline .current b")
            await expect(current).to_have_text(after, timeout=15_000)
        await expect(second.page.get_by_text(f"because of {ATTACK}").first).to_be_visible()
        assert second.messages == []
        assert not await second.is_attacked()
    finally:
        await context.close()


async def roll_back(page: Page, version: str) -> None:
    """Roll back on the page of versions, with the keyboard."""
    await page.goto(f"/dashboard/tenants/{ACME}/versions")
    await page.get_by_text(f"Roll back to {version}", exact=True).first.press("Enter")
    await page.keyboard.press("Tab")
    await page.keyboard.type(f"because of {ATTACK}")
    await page.keyboard.press("Enter")
    await expect(page.locator(".serving")).to_have_text(version)


async def test_decisions_about_an_incident_need_a_reason(tab: Watched) -> None:
    page = tab.page
    await page.goto(f"/dashboard/tenants/{ACME}/incidents/incident61636d65")
    await page.get_by_role("button", name="Record the decision").click()
    assert await page.locator("#reason").evaluate("(field) => field.validity.valueMissing")
    await page.locator("#reason").fill(f"known {ATTACK}")
    await page.keyboard.press("Enter")
    await expect(page.locator(".notice")).to_contain_text(f"Acknowledged: known {ATTACK}")
    await expect(page.locator(".story .person")).to_be_visible()


async def test_pages_of_a_tenant_show_nothing_of_others(tab: Watched) -> None:
    other = f"incident{OTHER.encode().hex()[:8]}"
    found = await tab.page.request.get(f"/dashboard/tenants/{ACME}/incidents/{other}")
    assert found.status == 404
    await tab.page.goto(f"/dashboard/tenants/{ACME}/incidents")
    assert other not in await tab.page.content()


async def test_a_report_is_made_and_opened_without_scripts(tab: Watched) -> None:
    page = tab.page
    await page.goto(f"/dashboard/tenants/{ACME}/improvements")
    await page.get_by_role("button", name="Make a report").click()
    await page.get_by_role("link", name="open", exact=True).first.click()
    await expect(page.locator("h1")).to_be_visible()
    assert not await tab.is_attacked()


async def test_a_ticket_is_implemented_and_dismissed(tab: Watched) -> None:
    page = tab.page
    opened = await page.request.post(f"/v1/tenants/{ACME}/tickets", data={"title": ATTACK})
    assert opened.ok, await opened.text()
    await page.goto(f"/dashboard/tenants/{ACME}/improvements")
    await page.get_by_role("button", name="Look for recommendations").click()
    await page.get_by_role("link", name=ATTACK).click()
    await expect(page.locator("h1")).to_have_text(ATTACK)
    await expect(page.get_by_text("The change is not made yet")).to_be_visible()
    assert await violations(page) == ""
    for button, state in (("The change was made now", "implemented"), ("Dismiss", "dismissed")):
        await page.locator("#details").fill(ATTACK)
        await page.get_by_role("button", name=button).click()
        await expect(page.locator("main .badge").first).to_have_text(state)
    assert not await tab.is_attacked()
