"""Real faults: found, mended and verified, or undone and escalated."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from karen_learner.events import Event, TrainingProgressed
from karen_learner.learner import AutonomousLearner, create_autonomous_learner
from karen_learner.records import Outcome, Verdict
from karen_learner.records.strategies import StrategyTally
from karen_learner.training import LocalWorker
from tests.autonomy.troubleshooter.conftest import MakePatient
from tests.conftest import ACME, TINY, WORDS, MakeLearner

TIDY = {"mended": ["reading", "diagnosis", "remedy", "remedy", "verification", "recovery"]}


async def test_a_damaged_version_is_restored_from_its_backup(
    acme: AutonomousLearner, make_patient: MakePatient
) -> None:
    champion = (await acme.status(ACME)).champion
    assert champion is not None
    (champion.path / "meta.json").write_text("{}")
    patient = make_patient(acme, "damaged_version", "degraded_mode")
    [issue] = await patient.pass_time()
    assert (issue.type, issue.severity, issue.state) == ("damaged_version", "critical", "resolved")
    assert [entry.kind for entry in (await patient.incident("damaged_version")).story] == TIDY["mended"]
    assert (await acme.repair(ACME, dry_run=True)).action == "nothing"
    assert await patient.pass_time() == []


async def test_a_lost_version_is_trained_anew(acme: AutonomousLearner, make_patient: MakePatient) -> None:
    shutil.rmtree(acme.layout.model_root)
    shutil.rmtree(acme.layout.backup_root)
    patient = make_patient(acme, "damaged_version")
    [issue] = await patient.pass_time()
    assert issue.state == "resolved"
    assert "restore_version has helped" in (await patient.story("damaged_version"))[-1]
    assert (await acme.analyze(ACME, "what is my balance red")).intent == "balance"


async def test_a_stalled_worker_is_restarted(make_learner: MakeLearner, make_patient: MakePatient) -> None:
    async with make_learner() as learner:
        worker = learner._backend
        assert isinstance(worker, LocalWorker)
        await worker.start()
        assert worker.pid is not None
        os.kill(worker.pid, signal.SIGSTOP)
        running = asyncio.create_task(learner.trigger_learning_cycle(ACME, force_training=True, mode="full"))
        while (await learner.status(ACME)).running_cycle is None:
            await asyncio.sleep(0.02)
        patient = make_patient(learner, "stalled_cycle")
        assert await patient.pass_time() == []
        [issue] = await patient.pass_time(minutes=40)
        assert issue.state == "verifying"
        assert (await running).status == "failed"
        assert await patient.pass_time() == []
        assert (await patient.incident("stalled_cycle")).state == "resolved"
        again = await learner.trigger_learning_cycle(ACME, force_training=True, mode="full")
        assert again.status != "failed"


async def test_a_killed_worker_counts_as_a_lack_of_memory(
    make_learner: MakeLearner, make_patient: MakePatient
) -> None:
    async with make_learner() as learner:
        worker = learner._backend
        assert isinstance(worker, LocalWorker)
        await worker.start()
        kills = [worker.pid]

        async def kill(event: Event) -> None:
            if isinstance(event, TrainingProgressed) and kills:
                os.kill(kills.pop() or 0, signal.SIGKILL)

        learner.events.subscribe(kill)
        result = await learner.trigger_learning_cycle(ACME, force_training=True, mode="full")
        assert result.status == "failed"
        patient = make_patient(learner, "memory_exhausted")
        [issue] = await patient.pass_time()
        assert (issue.severity, issue.state) == ("critical", "resolved")
        incident = await patient.incident("memory_exhausted")
        assert learner.settings.of(ACME).training.batch_size == 16
        assert learner.settings.of("another").training.batch_size == 32
        assert incident.kept["smaller_batches"]["before"] == {"training.batch_size": 32}


class AcceptsAll:
    """A gate of a host that accepts each candidate."""

    async def judge(self, _evidence: Any) -> Verdict:
        return Verdict(accepted=True, harmful=False, improved=(), checks=())


async def test_a_collapsed_label_is_rolled_back(taught_home: Path, make_patient: MakePatient) -> None:
    """An increment without replay on texts of one intent with the label of another."""
    overrides = {**TINY, "learning.replay_examples": 0}
    async with create_autonomous_learner(taught_home, overrides=overrides, gate=AcceptsAll()) as learner:
        before = (await learner.status(ACME)).champion
        for number, (word, other) in enumerate(itertools.product(WORDS, WORDS[:5])):
            text, feedback = f"good morning {word} you {other}", {"corrected_intent": "travel"}
            await learner.collect_conversation_metadata(ACME, text, "ok", f"user {number}", feedback)
        await learner.trigger_learning_cycle(ACME, force_training=True, mode="incremental")
        collapsed = (await learner.status(ACME)).champion
        assert before is not None
        assert collapsed is not None
        assert collapsed.version != before.version
        patient = make_patient(learner, "label_collapse")
        [issue] = await patient.pass_time()
        assert (issue.type, issue.severity, issue.state) == ("label_collapse", "critical", "resolved")
        after = (await learner.status(ACME)).champion
        assert after is not None
        assert after.version == before.version
        incident = await patient.incident("label_collapse")
        assert incident.attempts == {"rollback": 1}
        assert [entry.kind for entry in incident.story] == TIDY["mended"]


async def test_a_bad_batch_is_quarantined_and_its_release_stays_with_a_person(
    make_learner: MakeLearner, make_patient: MakePatient
) -> None:
    async with make_learner() as learner:
        patient = make_patient(learner, "repeated_rejections")
        for batch in range(3):
            for word in WORDS:
                await learner.collect_conversation_metadata(
                    ACME,
                    f"what is my balance {word} number {batch} of {word * 2}",
                    "ok",
                    f"user {batch} {word}",
                    {"corrected_intent": "travel"},
                )
            result = await learner.trigger_learning_cycle(ACME, force_training=True)
            assert result.status == "rejected", (result.status, result.error_message)
        [issue] = await patient.pass_time()
        assert (issue.type, issue.state) == ("repeated_rejections", "resolved")
        assert (await patient.incident("repeated_rejections")).attempts == {"quarantine_batch": 1}
        assert (await learner.quarantine(ACME)).counts == {"harmful": 45}
        assert (await learner.status(ACME)).counts.examples.get("pending", 0) == 0
        await learner.collect_conversation_metadata(
            ACME, "what is my balance", "ok", "ann", {"corrected_intent": "balance"}
        )
        assert await patient.pass_time() == []
        again = make_patient(learner, "repeated_rejections")
        assert await again.pass_time() == [], "the rejected candidates do not count again"


@pytest.mark.parametrize("store_kind", ["file"], indirect=True)  # PostgreSQL frees its own pages
async def test_a_bloated_database_is_rewritten(acme: AutonomousLearner, make_patient: MakePatient) -> None:
    patient = make_patient(acme, "bloated_database")
    long = "x" * 990
    outcomes = [
        Outcome(known_at=patient.now, source="accuracy", agent="a", predicted=long, actual=long)
        for _ in range(6_000)
    ]
    for start in range(0, len(outcomes), 1_000):
        await acme.store.add_outcomes(ACME, outcomes[start : start + 1_000])
    assert await patient.pass_time() == []
    await acme.store.prune_outcomes(ACME, before=patient.now + timedelta(days=1))
    before = (await acme.store.page_use())[0]
    [issue] = await patient.pass_time()
    assert (issue.type, issue.tenant_id, issue.state) == ("bloated_database", None, "resolved")
    assert (await acme.store.page_use())[0] < before / 2


async def test_a_stale_model_learns_what_waits(acme: AutonomousLearner, make_patient: MakePatient) -> None:
    for word in WORDS:
        await acme.collect_conversation_metadata(
            ACME, f"send me to {word} island", "ok", f"user {word}", {"corrected_intent": "travel"}
        )
    patient = make_patient(acme, "stale_model")
    assert await patient.pass_time() == []
    [issue] = await patient.pass_time(days=31)
    assert issue.type == "stale_model"
    assert (await patient.incident("stale_model")).attempts["learning_cycle"] == 1


async def test_failures_in_a_row_bar_the_strategy_until_attempts_succeed(
    acme: AutonomousLearner, make_patient: MakePatient
) -> None:
    patient = make_patient(acme, "consecutive_failures", "low_success_rate")
    await tallied(acme, patient.now)
    await patient.attempt([True] * 10 + [False] * 7)
    await patient.pass_time()
    [switch] = (await acme.store.strategies(ACME)).switches
    assert (switch.name, switch.strategy) == ("barred", "llm")
    assert (await patient.incident("consecutive_failures")).state == "verifying"
    await patient.attempt([True] * 3, strategy="template")
    await patient.pass_time()
    assert (await patient.incident("consecutive_failures")).state == "resolved"


async def test_remedies_that_do_not_help_are_undone_and_people_are_told(
    acme: AutonomousLearner, make_patient: MakePatient
) -> None:
    acme.settings.notifications.update(
        {"targets": {"ops": {"kind": "webhook", "url": "https://ops.example.org/"}}, "group_s": 0.0}
    )
    patient = make_patient(acme, "low_success_rate")
    await tallied(acme, patient.now)
    await patient.attempt([False] * 30)
    for _ in range(12):
        await patient.pass_time(minutes=30)
        await patient.attempt([False] * 30, strategy="template")
    story = await patient.story("low_success_rate")
    assert [text for text in story if "is undone" in text] == [
        "rotate_strategy is undone", "emergency_switch is undone",
    ]  # fmt: skip
    assert "people decide" in story[-1]
    assert (await acme.store.strategies(ACME)).switches == ()
    [state] = await acme.store.target_states()
    assert state.waiting == 2, "a notice of the emergency switch, and the escalation"
    await patient.attempt([True] * 200, strategy="llm")
    await patient.pass_time()
    assert (await patient.incident("low_success_rate")).state == "resolved"
    [state] = await acme.store.target_states()
    assert state.waiting == 3


async def tallied(learner: AutonomousLearner, now: object) -> None:
    """Two known strategies of the domain `billing`."""
    rows = [
        StrategyTally(kind="attempts", domain="billing", name=name, counts={"success": 1.0}, at=now)
        for name in ("llm", "template", "default")
    ]
    await learner.store.add_strategy_tallies(ACME, rows, half_life_s=86_400.0)


@pytest.mark.parametrize("pauses", [True, False])
async def test_a_paused_remedy_is_not_applied(
    pauses: bool, acme: AutonomousLearner, make_patient: MakePatient
) -> None:
    champion = (await acme.status(ACME)).champion
    assert champion is not None
    (champion.path / "meta.json").write_text("{}")
    patient = make_patient(acme, "damaged_version")
    if pauses:
        actions = patient.troubleshooter.operator_actions
        await actions.pause("restore_version", "I look at it", now=patient.now)
    await patient.pass_time()
    assert (await patient.incident("damaged_version")).state == ("escalated" if pauses else "resolved")


async def test_a_damaged_version_does_not_wait_for_the_verification_of_another_area(
    acme: AutonomousLearner, make_patient: MakePatient
) -> None:
    patient = make_patient(acme, "damaged_version", "consecutive_failures", "low_success_rate")
    await tallied(acme, patient.now)
    await patient.attempt([True] * 10 + [False] * 17)
    await patient.pass_time()
    assert (await patient.incident("consecutive_failures")).state == "verifying"
    champion = (await acme.status(ACME)).champion
    assert champion is not None
    (champion.path / "meta.json").write_text("{}")
    await patient.pass_time()
    states = {one.type: one.state for one in await patient.troubleshooter.incidents()}
    assert states["damaged_version"] == "resolved"
    assert states.get("low_success_rate", "open") == "open", "the attempts are one area"
