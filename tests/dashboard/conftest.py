"""Fixtures: a server and a browser of the session, on a home with two versions, turns and hostile texts."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import pytest_asyncio
import uvicorn
from playwright.async_api import Browser, BrowserContext, Page, Request, async_playwright, expect

from karen_learner.autonomy.strategies import StrategyKnowledge
from karen_learner.learner import create_autonomous_learner
from karen_learner.records import utc_now
from karen_learner.records.incidents import Incident
from karen_learner.service import create_app
from tests.conftest import ACME, PHRASES, TINY, WORDS, gold_examples
from tests.homes import Homes

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
ATTACK = "<img src=x onerror='window.attacked=1'><script>window.attacked=1</script>"
DISPUTED = "what is my balance of travel red"
OTHER = "<img src=x onerror=attacked=1>"
"""A second tenant."""
REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
"""


async def teach(home: Path) -> None:
    """Two versions, turns with feedback, and texts of an attacker wherever a text may be."""
    async with create_autonomous_learner(home, overrides=TINY) as learner:
        first = await learner.bootstrap(ACME, gold_examples())
        assert first.status == "deployed", first.error_message
        for user, intent in (("ann", "balance"), ("bob", "travel")):
            correction = {"corrected_intent": intent}
            await learner.collect_conversation_metadata(
                ACME, DISPUTED, "", user, correction, turn_id=f"by-{user}"
            )
        more = [
            {"text": phrase.format(f"dark {word}"), "intent": intent}
            for intent, phrase in PHRASES.items()
            for word in WORDS
        ]
        attack = [{"text": f"{ATTACK} {word}", "intent": "<i>attack"} for word in WORDS]
        second = await learner.bootstrap(ACME, more + attack)
        assert second.model_version, second.error_message
        await learner.note_version(ACME, second.model_version, ATTACK)
        for number in range(120):
            intent = list(PHRASES)[number % len(PHRASES)]
            text = PHRASES[intent].format(f"{WORDS[number % len(WORDS)]} {number}")
            feedback = {"corrected_intent": intent} if number % 3 == 0 else None
            await learner.collect_conversation_metadata(
                ACME,
                ATTACK if number == 7 else text,
                ATTACK,
                f"user-{number % 9}",
                feedback,
                turn_id=f"t{number}",
            )
        await learner.collect_conversation_metadata(OTHER, "hello", "hello", "user")
        for tenant_id in (ACME, OTHER):
            await learner.store.save_incident(_incident(tenant_id))
        known = StrategyKnowledge(
            learner.settings.strategies, tenant_id=ACME, store=learner.store, clock=utc_now
        )
        for name in ("<b>fast", "careful"):
            known.chooser.record(True, name, "<i>chat")
        await known.sync()


def _incident(tenant_id: str) -> Incident:
    now = utc_now()
    new = Incident(
        incident_id=f"incident{tenant_id.encode().hex()[:8]}",
        tenant_id=tenant_id,
        type="latency",
        severity="warning",
        state="escalated",
        opened_at=now,
        updated_at=now,
        next_at=now,
        remedy="retrain",
    )
    return new.told(now, "reading", ATTACK, {"value": ATTACK})


class Server:
    """A server on loopback, in a thread with an event loop of its own."""

    def __init__(self, home: Path) -> None:
        app = create_app(create_autonomous_learner(home, overrides=TINY))
        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=5)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self.home = home
        self.parts = app.state.parts

    def start(self) -> None:
        self._thread.start()
        while not self._server.started:
            assert self._thread.is_alive()
            self._thread.join(0.05)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()

    @property
    def address(self) -> str:
        port = self._server.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def server(homes: Homes) -> Iterator[Server]:
    made = Server(homes.trained("dashboard", "file", teach).home)
    made.start()
    yield made
    made.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium in {CHROMIUM}: apt-get install chromium")
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        await started.close()


@dataclass(eq=False)
class Watched:
    """A page, with the messages of its console and the addresses of its requests."""

    page: Page
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    async def is_attacked(self) -> bool:
        return bool(await self.page.evaluate("Boolean(window.attacked)"))


async def watched(context: BrowserContext) -> Watched:
    """A new page of a context."""
    made = Watched(await context.new_page())
    await made.page.add_init_script(REPORT_VIOLATIONS)

    def on_request(request: Request) -> None:
        made.requests.append(request.url)

    made.page.on("console", lambda message: made.messages.append(f"{message.type}: {message.text}"))
    made.page.on("pageerror", lambda error: made.messages.append(f"error: {error}"))
    made.page.on("request", on_request)
    return made


@pytest_asyncio.fixture(loop_scope="session")
async def tab(browser: Browser, server: Server) -> AsyncIterator[Watched]:
    """A page in a new profile of the browser. It has no errors, and no requests to other hosts."""
    context = await browser.new_context(base_url=server.address, viewport={"width": 1440, "height": 900})
    context.set_default_timeout(60_000)  # a busy machine
    expect.set_options(timeout=60_000)
    made = await watched(context)
    yield made
    await context.close()
    assert made.messages == []
    assert [one for one in made.requests if not one.startswith((server.address, "data:"))] == []
