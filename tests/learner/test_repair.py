"""A live model whose files are lost: restored from its backup, else trained anew from the stored examples."""

from __future__ import annotations

import json
import shutil
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import Connection, text

from karen_learner.errors import ModelError, UnknownTenant
from karen_learner.learner import AutonomousLearner
from karen_learner.memory import SqlMemoryStore
from karen_learner.models.backups import is_lost, make_backup
from karen_learner.models.versions import candidate_digest, read_manifest
from karen_learner.records import LearningCycleResult
from tests.conftest import ACME, MakeLearner, gold_examples

TEXT = "a flight to red please"
CORRECTED = "hand me the purple thing now"


async def lose(learner: AutonomousLearner) -> str:
    """Remove all model files and backups; the name of the champion."""
    shutil.rmtree(learner.layout.model_root)
    shutil.rmtree(learner.layout.backup_root)
    champion = (await learner.status(ACME)).champion
    assert champion is not None
    return champion.version


async def correct(learner: AutonomousLearner) -> None:
    for user in "abc":
        feedback = {"corrected_intent": "travel"}
        await learner.collect_conversation_metadata(ACME, CORRECTED, "ok", user, feedback)


async def by_repair(learner: AutonomousLearner) -> LearningCycleResult:
    report = await learner.repair(ACME)
    assert (report.action, report.done) == ("retrain", True)
    assert report.cycle is not None
    return report.cycle


async def by_a_scheduled_cycle(learner: AutonomousLearner) -> LearningCycleResult:
    assert (await learner.status(ACME)).ready_to_learn
    assert (await learner.plan_learning_cycle(ACME)).would_run
    return await learner.trigger_learning_cycle(ACME)


async def by_a_forced_full_training(learner: AutonomousLearner) -> LearningCycleResult:
    return await learner.trigger_learning_cycle(ACME, mode="full", force_training=True)


@pytest.mark.parametrize("way", [by_repair, by_a_scheduled_cycle, by_a_forced_full_training])
async def test_a_lost_model_is_trained_anew_from_the_examples_that_it_had_learned(
    make_learner: MakeLearner, way: Callable[[AutonomousLearner], Awaitable[LearningCycleResult]]
) -> None:
    async with make_learner() as learner:
        lost = await lose(learner)
        assert (await learner.analyze(ACME, TEXT)).degraded
        await correct(learner)
        result = await way(learner)
        assert result.status == "deployed", result.error_message
        assert (result.mode, result.lost_version) == ("full", lost)
        assert (result.training_examples, result.replay_examples) == (0, len(gold_examples()))
        answer = await learner.analyze(ACME, TEXT)
        assert (answer.intent, answer.model_version) == ("travel", result.model_version)
        status = await learner.status(ACME)
        assert status.health.healthy
        assert status.counts.examples["pending"] == 1  # the correction waits for a gate
        assert status.champion is not None
        assert status.champion.parent == lost
        with pytest.raises(ModelError, match="no backup"):
            await learner.rollback(ACME)
    async with make_learner() as again:
        assert not (await again.analyze(ACME, TEXT)).degraded


async def test_a_bootstrap_replaces_a_lost_model_and_learns_the_new_gold(make_learner: MakeLearner) -> None:
    async with make_learner() as learner:
        await lose(learner)
        colours = ("red", "blue", "green", "pink")
        new = [{"text": f"pay the {colour} bill", "intent": "bill"} for colour in colours]
        result = await learner.bootstrap(ACME, new)
        assert (result.status, result.training_examples) == ("deployed", len(new))
        assert (await learner.analyze(ACME, "pay the red bill")).intent == "bill"


async def test_a_damaged_model_is_restored_without_a_training(make_learner: MakeLearner) -> None:
    async with make_learner() as learner:
        (version,) = await learner.versions(ACME)
        shutil.rmtree(version.path)
        planned = await learner.repair(ACME, dry_run=True)
        assert (planned.action, planned.done) == ("restore", False)
        assert not version.path.exists()
        report = await learner.repair(ACME)
        assert (report.action, report.done, report.cycle) == ("restore", True, None)
        assert (await learner.analyze(ACME, TEXT)).model_version == version.version
        assert (await learner.repair(ACME)).action == "nothing"


@pytest.mark.parametrize("damage", ["empty", "garbage", "cut", "another version"])
async def test_a_damaged_backup_saves_no_lost_model(make_learner: MakeLearner, damage: str) -> None:
    async with make_learner() as learner:
        (version,) = await learner.versions(ACME)
        assert version.backup_path is not None
        content = version.backup_path.read_bytes()
        if damage == "another version":
            (version.path / "meta.json").write_text("{}")
            manifest = read_manifest(version.path).model_copy(update={"digest": "0" * 64})
            (version.path / "manifest.json").write_text(manifest.model_dump_json())
            version.backup_path.unlink()
            make_backup(version.path, version.backup_path)
        else:
            damaged = {"empty": b"", "garbage": b"x" * 500, "cut": content[: len(content) // 2]}
            version.backup_path.write_bytes(damaged[damage])
        shutil.rmtree(version.path)
        status = await learner.status(ACME)
        assert not status.health.healthy
        assert status.ready_to_learn
        assert (await learner.repair(ACME, dry_run=True)).action == "retrain"
        result = await learner.trigger_learning_cycle(ACME)
        assert (result.status, result.lost_version) == ("deployed", version.version)
        assert (await learner.status(ACME)).health.healthy


async def test_a_missing_backup_is_made(acme: AutonomousLearner) -> None:
    (version,) = await acme.versions(ACME)
    assert version.backup_path is not None
    version.backup_path.unlink()
    assert (await acme.repair(ACME)).action == "back_up"
    assert version.backup_path.is_file()


async def test_an_intact_model_that_does_not_load_is_replaced_by_force_alone(
    make_learner: MakeLearner,
) -> None:
    """A training would not mend missing packages or permissions."""
    async with make_learner() as learner:
        await _break_the_pipeline(learner)
        assert (await learner.analyze(ACME, TEXT)).degraded
        status = await learner.status(ACME)
        assert (status.health.healthy, status.ready_to_learn) == (False, False)
        assert "says why it cannot be loaded" in status.advice
        report = await learner.repair(ACME)
        assert (report.done, report.cycle) == (False, None)
        assert report.problem is not None
        assert "cannot load a spaCy pipeline" in report.problem
        assert (await learner.repair(ACME, dry_run=True)).action != "retrain"
        forced = await learner.repair(ACME, force=True)
        assert (forced.action, forced.done, forced.problem) == ("retrain", True, None)
        assert forced.cycle is not None
        assert forced.cycle.lost_version is not None
        assert (await learner.analyze(ACME, TEXT)).intent == "travel"


async def test_a_repair_of_an_unknown_tenant_is_refused(acme: AutonomousLearner) -> None:
    with pytest.raises(UnknownTenant):
        await acme.repair("nobody")


async def test_a_dry_run_for_a_lost_model_changes_nothing(make_learner: MakeLearner) -> None:
    async with make_learner() as learner:
        await lose(learner)
        report = await learner.repair(ACME, dry_run=True)
        assert (report.action, report.done) == ("retrain", False)
        assert [check.files for check in report.checks] == ["missing"]
        assert len(await learner.history(ACME)) == 1


async def test_files_that_cannot_be_read_are_not_lost(acme: AutonomousLearner) -> None:
    (version,) = await acme.versions(ACME)
    assert not is_lost(version)
    manifest = version.path / "manifest.json"
    manifest.unlink()
    manifest.mkdir()
    without_backup = version.model_copy(update={"backup_path": None})
    assert not is_lost(without_backup)
    shutil.rmtree(version.path)
    assert is_lost(without_backup)


async def test_files_that_cannot_be_read_are_a_problem_and_not_trained_anew(
    make_learner: MakeLearner,
) -> None:
    async with make_learner() as learner:
        (version,) = await learner.versions(ACME)
        assert version.backup_path is not None
        version.backup_path.unlink()
        manifest = version.path / "manifest.json"
        manifest.unlink()
        manifest.mkdir()  # as a denied permission, which root does not have
        for dry_run in (True, False):
            report = await learner.repair(ACME, dry_run=dry_run)
            assert (report.action, report.done, report.cycle) == ("nothing", False, None)
            assert report.problem is not None
            assert [check.files for check in report.checks] == ["unreadable"]
        assert not (await learner.plan_learning_cycle(ACME)).would_run


async def _break_the_pipeline(learner: AutonomousLearner) -> None:
    """Make the champion unloadable, with the digest of its present files in manifest and store."""
    (version,) = await learner.versions(ACME)
    (version.path / "config.cfg").write_text("[nlp]\nlang = null\n")
    digest = candidate_digest(version.path)
    manifest = read_manifest(version.path).model_copy(update={"digest": digest})
    (version.path / "manifest.json").write_text(manifest.model_dump_json())
    body = json.dumps(version.model_copy(update={"digest": digest}).to_dict())
    assert isinstance(learner.store, SqlMemoryStore)

    def replace_digest(connection: Connection) -> None:
        connection.execute(text("UPDATE versions SET body = :body"), {"body": body})

    await learner.store._database.write((ACME,), replace_digest)
