"""`AutomatedRetrainer`, its history, and the command `retrain`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from karen_learner import blocking
from karen_learner.autonomy.retrainer import AutomatedRetrainer
from karen_learner.errors import InvalidInput
from karen_learner.learner import create_autonomous_learner
from karen_learner.records import UserFeedback
from tests.autonomy.conftest import FastClock
from tests.conftest import ACME, TINY


async def test_a_retraining_is_due_with_new_samples_or_with_age(taught_home: Path) -> None:
    clock = FastClock()
    async with create_autonomous_learner(taught_home, overrides=TINY) as learner:
        clock.now = (await learner.history(ACME))[0].started_at
        retrainer = AutomatedRetrainer(learner, tenant_id=ACME, min_new_samples=12, clock=clock)
        assert not await retrainer.should_retrain()
        skipped = await retrainer.retrain()
        assert (skipped.status, skipped.dataset_quality.new_samples) == ("skipped", 0)
        for number in range(12):
            await learner.collect_conversation_metadata(
                ACME, f"what is my balance number {number}", "It is 12.", f"user {number}",
                UserFeedback(corrected_intent="balance"),
            )  # fmt: skip
            if number == 0:
                clock.move(31 * 86_400)
                assert "31 days" in (await retrainer.should_retrain()).reason
        assert await retrainer.should_retrain()
        record = await retrainer.retrain()
        assert record.status in ("deployed", "rejected")
        assert record.dataset_quality.total_entries >= 45 + 12
        assert record.dataset_quality.accuracy_improvement is not None
        assert (await retrainer.status()).last_retrain == record
    logs = taught_home / "logs"
    entries = [json.loads(line) for line in (logs / "retrain_history.jsonl").read_text().splitlines()]
    assert [entry["status"] for entry in entries] == ["skipped", record.status]
    assert entries[1]["retrain_id"] == record.retrain_id
    assert json.loads((logs / "cron_status.json").read_text())["last_status"] == record.status
    assert len((logs / "retrain.log").read_text().splitlines()) == 2


def test_the_synchronous_retrainer(taught_home: Path) -> None:
    with blocking.AutomatedRetrainer(tenant_id=ACME, home=taught_home) as retrainer:
        assert not retrainer.should_retrain()
        assert retrainer.retrain().status == "skipped"
        assert retrainer.status().min_days == 30.0
    with pytest.raises(InvalidInput):
        blocking.AutomatedRetrainer(min_days=0)
