"""Screenshots of the dashboard for the documentation, of a service that runs on the home of the demo.

    make serve
    python tools/screenshots.py http://127.0.0.1:8000 docs/images

It needs playwright and Chromium.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

import httpx
from playwright.async_api import Browser, async_playwright

CHROMIUM = "/usr/bin/chromium"
SIZE = {"width": 1280, "height": 800}
SHOTS = {
    "dashboard-quality": ("quality", "light"),
    "dashboard-verdict": ("cycles/{cycle}", "dark"),
    "dashboard-review": ("review", "light"),
}


async def shoot(browser: Browser, address: str, target: Path, theme: str) -> None:
    """Write one screenshot."""
    context = await browser.new_context(viewport=SIZE, color_scheme=theme, reduced_motion="reduce")
    page = await context.new_page()
    await page.goto(address)
    await page.wait_for_selector('#live-state[data-state="live"]')
    await page.screenshot(path=target)
    await context.close()


async def main(base: str, folder: Path) -> None:
    """Write all screenshots of the first tenant."""
    async with httpx.AsyncClient(base_url=base, timeout=60) as client:
        tenant = (await client.get("/v1/tenants")).json()[0]
        history = (await client.get(f"/v1/tenants/{tenant}/history")).json()
    decided = [one["cycle_id"] for one in history if one["flips"] is not None]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for name, (view, theme) in SHOTS.items():
            path = view.format(cycle=decided[min(1, len(decided) - 1)])
            address = f"{base}/dashboard/tenants/{tenant}/{path}"
            await shoot(browser, address, folder / f"{name}.png", theme)
        await browser.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("base", help="address of the service")
    parser.add_argument("folder", type=Path, help="folder of the images")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(given.base, given.folder))
