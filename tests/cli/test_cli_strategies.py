"""`karen-learner strategies`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from karen_learner.autonomy.strategies import StrategyKnowledge
from karen_learner.memory import open_store
from karen_learner.records import utc_now
from karen_learner.settings import load_settings


@pytest.fixture
def home(empty: Any) -> Any:
    async def attempt() -> None:
        settings = load_settings()
        async with open_store(empty.home / "karen.db", settings.store) as store:
            book = StrategyKnowledge(settings.strategies, tenant_id="acme", store=store, clock=utc_now)
            for number in range(40):
                book.record(False, "llm", "billing", "timeout", task_id=str(number))
                book.record(True, "template", "billing", task_id=str(number), duration_ms=40.0)
            await book.sync()

    asyncio.run(attempt())
    return empty


def test_strategies_limits_and_rules_are_shown(home: Any) -> None:
    (document,) = home.json("strategies")
    (domain,) = document["domains"]
    best = domain["strategies"][0]
    assert (document["tenant_id"], domain["domain"], best["strategy"]) == ("acme", "billing", "template")
    assert best["limits"]["timeout_s"] == 1.0
    assert document["rules"][0]["action"] == "switch"
    shown = home("strategies", "acme").stdout
    assert "timeout in billing: switch (40 errors; success after switch 40 of 40)" in shown


def test_a_strategy_is_frozen_and_released(home: Any) -> None:
    frozen = home.json("strategies", "acme", "--freeze", "llm", "--domain", "billing")
    assert frozen[0]["domains"][0]["frozen"] == "llm"
    assert home.json("strategies", "acme")[0]["domains"][0]["frozen"] == "llm"
    assert (
        home.json("strategies", "acme", "--unfreeze", "--domain", "billing")[0]["domains"][0]["frozen"]
        is None
    )


def test_mistakes_are_explained(home: Any) -> None:
    assert "has no strategies yet" in home("strategies", "nobody").stderr
    assert home("strategies", "--unfreeze").exit_code == 2
    assert home("strategies", "acme", "--freeze", "llm", "--unfreeze").exit_code == 2
