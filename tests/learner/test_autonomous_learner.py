"""The public contract, name by name, in the order of a tutorial.

The tests use an SQLite database, a worker process that trains with `nlp.update`, and models on disk. Only the
pipeline is small, so that a test takes seconds.
"""

import json
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import spacy

from karen_learner import (
    Analysis,
    AutonomousLearner,
    ConversationMetadata,
    ConversationMetadataCollector,
    IncrementalTrainingPipeline,
    LearningCycleResult,
    MemoryStore,
    ModelValidator,
    SpacyAnalyzer,
    UserFeedback,
    ValidationResult,
    create_autonomous_learner,
    create_spacy_analyzer,
)
from karen_learner.errors import InvalidInput, LearnerClosed, SettingsError, UnknownTenant, UnknownTurn
from karen_learner.records import GateCheck, Verdict
from karen_learner.settings import load_settings
from tests.homes import Homes, TrainedHome, a_store

TENANT = "tenant_123"
QUICK = {
    "training.pipeline": str(Path(__file__).parents[1] / "tiny.cfg"),
    "training.language": "xx",  # its tokenizer loads fast
    "training.n_iter": 15,
    "training.continuing_n_iter": 15,
    "training.min_updates": 0,
    "training.learn_rate": 0.02,
    "training.continuing_rate": 1.0,
    "learning.min_data_threshold": 10,
    "learning.full_growth": 0,
    "learning.refit_below": 0,
    "training.validation_split": 0.5,  # two shadows
}

PLACES = ("paris", "rome", "berlin", "oslo", "madrid", "vienna", "lisbon", "prague")
TOPICS = {
    "balance": ("what is my balance", "show the balance", "how much money is left", "account balance"),
    "travel": ("fly me to {}", "book a flight to {}", "a trip to {}", "tickets for {}"),
    "weather": ("will it rain in {}", "weather for {}", "is it sunny in {}", "forecast for {}"),
}
MOODS = {"negative": "this is awful", "neutral": "please", "positive": "that would be great"}


def seed_examples() -> list[dict[str, Any]]:
    """96 labelled texts, as the lines of a corpus: `text`, `intent`, `sentiment`, `entities`."""
    rows = []
    for number, place in enumerate(PLACES):
        for intent, phrases in TOPICS.items():
            for offset, phrase in enumerate(phrases):
                mood = list(MOODS)[(number + offset) % 3]
                text = f"{phrase.format(place)} {MOODS[mood]} {number}"
                start = text.find(place)
                entities = [[start, start + len(place), "place"]] if start >= 0 else []
                rows.append({"text": text, "intent": intent, "sentiment": mood, "entities": entities})
    return rows


@pytest.fixture
async def home(
    tmp_path: Path, store_kind: str, migrated: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Path]:
    """A home that does not exist yet."""
    async with a_store(store_kind, monkeypatch, like=migrated):
        yield tmp_path / "karen-home"


async def bootstrap(home: Path) -> None:
    async with create_autonomous_learner(home, overrides=QUICK) as learner:
        assert (await learner.bootstrap(TENANT, seed_examples())).status == "deployed"


@pytest.fixture
def bootstrapped(homes: Homes, store_kind: str) -> TrainedHome:
    """The home of a bootstrapped tenant, created once and copied for each test."""
    return homes.trained("contract", store_kind, bootstrap)


@pytest.fixture
async def learner(
    bootstrapped: TrainedHome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AutonomousLearner]:
    """A learner whose tenant has a model."""
    async with (
        bootstrapped.copied(tmp_path / "karen-home", monkeypatch) as home,
        create_autonomous_learner(home, overrides=QUICK) as learner,
    ):
        yield learner


async def converse(learner: AutonomousLearner, count: int, **feedback: Any) -> list[ConversationMetadata]:
    """`count` turns with this feedback."""
    return [
        await learner.collect_conversation_metadata(
            tenant_id=TENANT,
            user_text=f"umbrella needed in {PLACES[number % 8]} number {number}",
            assistant_response="Let me see.",
            user_id=f"user_{number % 5}",
            user_feedback=feedback or None,
        )
        for number in range(count)
    ]


# The first model ------------------------------------------------------------------------------


async def test_bootstrap_deploys_the_first_model_from_labelled_texts(home: Path) -> None:
    async with create_autonomous_learner(home=home, overrides=QUICK) as learner:
        before = await learner.analyze(TENANT, "fly me to rome")
        result = await learner.bootstrap(TENANT, seed_examples())
        after = await learner.analyze(TENANT, "fly me to rome")
    assert before.degraded
    assert before.model_version is None
    assert isinstance(result, LearningCycleResult)
    assert (result.status, result.mode, result.reason) == ("deployed", "full", "bootstrap")
    assert result.baseline is None
    assert result.verdict is not None
    assert result.verdict.checks[0].name == "first_model"
    assert not after.degraded
    assert after.intent == "travel"
    assert after.model_version == result.model_version


async def test_bootstrap_takes_a_path(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "seed.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in seed_examples()) + "not json\n")
    async with create_autonomous_learner(home=home, overrides=QUICK) as learner:
        result = await learner.bootstrap(TENANT, path)
        assert result.status == "deployed"
        assert (await learner.status(TENANT)).labels["intent"].keys() == TOPICS.keys()


async def test_bootstrap_called_again_adds_gold(learner: AutonomousLearner) -> None:
    before = await learner.status(TENANT)
    await learner.bootstrap(TENANT, [{"text": f"sing song {n}", "intent": "music"} for n in range(12)])
    after = await learner.status(TENANT)
    assert "music" in after.labels["intent"]
    assert sum(after.labels["intent"].values()) == sum(before.labels["intent"].values()) + 12


# Conversations --------------------------------------------------------------------------------


async def test_collect_conversation_metadata_as_a_chat_orchestrator_calls_it(
    learner: AutonomousLearner,
) -> None:
    metadata = await learner.collect_conversation_metadata(
        tenant_id=TENANT,
        user_text="book a flight to oslo that would be great",
        assistant_response="Here are some flights...",
        user_id="user_123",
        user_feedback={"satisfaction_score": 0.9, "response_quality": 0.8},
    )
    assert isinstance(metadata, ConversationMetadata)
    assert metadata.tenant_id == TENANT
    assert metadata.user_id == "user_123"
    assert metadata.intent_detected == "travel"
    assert 0.0 <= metadata.intent_confidence <= 1.0
    assert metadata.sentiment_detected == "positive"
    assert 0.0 <= metadata.sentiment_confidence <= 1.0
    assert metadata.persona_selected == "enthusiastic"
    assert metadata.user_satisfaction == 0.9
    assert metadata.response_quality == 0.8
    assert metadata.entities_extracted == (("oslo", "place"),)
    assert metadata.linguistic_features["question"] is False
    assert metadata.feedback_provided is True
    assert metadata.correction_needed is False
    assert metadata.degraded is False
    assert metadata.model_version is not None
    assert metadata.conversation_id
    assert metadata.turn_id
    assert metadata.occurred_at.tzinfo is not None
    assert json.loads(json.dumps(metadata.to_dict()))["intent_detected"] == "travel"


async def test_a_turn_keeps_the_given_ids_and_time(learner: AutonomousLearner) -> None:
    moment = datetime(2026, 3, 1, 12, 30, tzinfo=timezone(timedelta(hours=2)))
    metadata = await learner.collect_conversation_metadata(
        TENANT, "hello", "hi", "u", conversation_id="c-1", turn_id="t-1", occurred_at=moment
    )
    assert (metadata.conversation_id, metadata.turn_id, metadata.occurred_at) == ("c-1", "t-1", moment)


async def test_a_repeated_turn_is_the_same_turn(learner: AutonomousLearner) -> None:
    first = await learner.collect_conversation_metadata(TENANT, "weather for rome", "sunny", "u", turn_id="t")
    again = await learner.collect_conversation_metadata(
        TENANT, "weather for rome", "sunny", "u", {"satisfaction_score": 1.0}, turn_id="t"
    )
    assert (await learner.status(TENANT)).counts.turns == 1
    assert again.conversation_id == first.conversation_id
    assert again.user_satisfaction == 1.0


async def test_add_feedback_stores_later_feedback(learner: AutonomousLearner) -> None:
    turn = await learner.collect_conversation_metadata(TENANT, "weather for rome", "sunny", "u")
    assert not turn.feedback_provided
    later = await learner.add_feedback(TENANT, turn.turn_id, {"corrected_intent": "travel"})
    assert later.feedback_provided
    assert later.correction_needed
    with pytest.raises(UnknownTurn):
        await learner.add_feedback(TENANT, "no such turn", {"satisfaction_score": 1.0})


async def test_user_feedback_refuses_unknown_keys(learner: AutonomousLearner) -> None:
    with pytest.raises(InvalidInput, match="satisfaction_score"):
        await learner.collect_conversation_metadata(TENANT, "hi", "hi", "u", {"satisfaction": 0.5})
    with pytest.raises(InvalidInput, match="response_quality"):
        await learner.collect_conversation_metadata(TENANT, "hi", "hi", "u", {"response_quality": 1.5})
    feedback = UserFeedback(
        satisfaction_score=0.1,
        response_quality=0.2,
        corrected_intent="travel",
        corrected_sentiment="neutral",
        corrected_entities=[{"start": 3, "end": 7, "label": "place"}],
        consent=True,
        comment="wrong city",
    )
    metadata = await learner.collect_conversation_metadata(TENANT, "to rome", "ok", "u", feedback)
    assert metadata.correction_needed
    assert (await learner.status(TENANT)).counts.turns == 1


async def test_without_consent_no_content_is_stored(learner: AutonomousLearner) -> None:
    turn = await learner.collect_conversation_metadata(
        TENANT, "a secret", "ok", "u", {"corrected_intent": "travel", "consent": False}
    )
    stored = await learner.store.get_turn(TENANT, turn.turn_id)
    assert stored is not None
    assert stored.user_text is None
    assert stored.assistant_response is None
    assert (await learner.status(TENANT)).counts.awaiting_curation == 0


async def test_analyze_returns_the_analysis_of_the_live_model(learner: AutonomousLearner) -> None:
    analysis = await learner.analyze(TENANT, "will it rain in vienna please")
    assert isinstance(analysis, Analysis)
    assert analysis.intent == "weather"
    assert analysis.intent_confidence > 0.5
    assert analysis.out_of_scope is False
    assert analysis.sentiment == "neutral"
    assert analysis.sentiment_confidence > 0.0
    assert [(e.start, e.end, e.label, e.text) for e in analysis.entities] == [(16, 22, "place", "vienna")]
    assert analysis.linguistic_features["tokens"] == 6
    assert analysis.degraded is False
    assert analysis.model_version == (await learner.status(TENANT)).champion.version
    assert (await learner.status(TENANT)).counts.turns == 0


# Learning -------------------------------------------------------------------------------------


async def test_trigger_learning_cycle_learns_from_corrections(learner: AutonomousLearner) -> None:
    before = (await learner.versions(TENANT))[0].version
    await converse(learner, 40, corrected_intent="weather", satisfaction_score=0.2)
    result = await learner.trigger_learning_cycle(TENANT, reason="forty corrections")
    assert result.cycle_id
    assert result.tenant_id == TENANT
    assert result.mode == "incremental"
    assert result.reason == "forty corrections"
    assert result.status in ("deployed", "rejected")
    assert result.training_examples > 0
    assert result.replay_examples > 0
    assert result.baseline is not None
    assert result.validation is not None
    assert result.verdict is not None
    assert result.previous_version == before
    assert result.backup_path is not None
    assert result.backup_path.is_file()
    assert result.started_at <= datetime.now(timezone.utc)
    assert set(result.stage_seconds) >= {"curating", "training", "validating"}
    if result.status == "deployed":
        assert result.model_improved
        assert result.model_version != before
        assert (await learner.analyze(TENANT, "umbrella needed in oslo")).intent == "weather"
    else:
        assert result.error_message
        assert result.model_version == before


async def test_a_cycle_without_enough_new_examples_is_skipped(learner: AutonomousLearner) -> None:
    await converse(learner, 4, corrected_intent="weather")
    skipped = await learner.trigger_learning_cycle(TENANT)
    assert skipped.status == "skipped"
    assert "min_data_threshold" in (skipped.error_message or "")
    forced = await learner.trigger_learning_cycle(TENANT, force_training=True, mode="incremental")
    assert forced.status in ("deployed", "rejected")


async def test_a_full_cycle_trains_from_scratch_on_all_examples(learner: AutonomousLearner) -> None:
    await converse(learner, 20, corrected_intent="weather")
    result = await learner.trigger_learning_cycle(TENANT, mode="full")
    assert result.mode == "full"
    assert result.training_examples + result.replay_examples > 60


async def test_shuffled_labels_are_rejected_and_the_live_model_is_unchanged(
    learner: AutonomousLearner,
) -> None:
    champion = (await learner.status(TENANT)).champion
    assert champion is not None
    wrong = {"balance": "travel", "travel": "weather", "weather": "balance"}
    for number, row in enumerate(seed_examples() * 2):
        await learner.collect_conversation_metadata(
            TENANT, f"{row['text']} {number}", "ok", f"user_{number % 7}",
            {"corrected_intent": wrong[row["intent"]]},
        )  # fmt: skip
    result = await learner.trigger_learning_cycle(TENANT)
    after = (await learner.status(TENANT)).champion
    assert result.status == "rejected"
    assert result.verdict is not None
    assert result.verdict.improved == ()
    assert after is not None
    assert after.digest == champion.digest
    assert (await learner.status(TENANT)).counts.examples["pending"] > 0


async def test_undeclared_labels_are_kept_but_not_learned(learner: AutonomousLearner) -> None:
    await converse(learner, 2, corrected_intent="umbrella")
    await learner.trigger_learning_cycle(TENANT)
    status = await learner.status(TENANT)
    assert "umbrella" not in status.labels["intent"]
    assert status.counts.examples["quarantined"] == 2


async def test_an_undeclared_label_that_several_people_use_is_declared(learner: AutonomousLearner) -> None:
    await converse(learner, 12, corrected_intent="umbrella")
    await learner.trigger_learning_cycle(TENANT)
    status = await learner.status(TENANT)
    assert status.labels["intent"]["umbrella"] == 12
    assert "quarantined" not in status.counts.examples


async def test_a_validation_result_is_complete(learner: AutonomousLearner) -> None:
    validation = (await learner.history(TENANT))[0].validation
    assert isinstance(validation, ValidationResult)
    for score in (
        validation.accuracy,
        validation.precision,
        validation.recall,
        validation.f1_score,
        validation.intent_accuracy,
        validation.sentiment_accuracy,
        validation.entity_accuracy,
    ):
        assert score is not None
        assert 0.0 <= score <= 1.0
    assert isinstance(validation.passed_threshold, bool)
    assert validation.counts["intent"] > 0
    low, high = validation.intervals["intent_accuracy"]
    assert low <= validation.intent_accuracy <= high
    assert validation.per_label["intent"].keys() == TOPICS.keys()


# Reports --------------------------------------------------------------------------------------


async def test_get_learning_metrics(learner: AutonomousLearner) -> None:
    await learner.trigger_learning_cycle(TENANT)
    metrics = await learner.get_learning_metrics(TENANT)
    assert metrics.total_cycles == 2
    assert metrics.successful_cycles == 1
    assert metrics.failed_cycles == 0
    assert metrics.skipped_cycles == 1
    assert metrics.model_improvements in (0, 1)
    assert metrics.average_training_time > 0
    assert metrics.last_cycle == metrics.recent_cycles[0]
    assert metrics.last_cycle.status == "skipped"
    everybody = await learner.get_learning_metrics()
    assert everybody.total_cycles == 2
    assert everybody.recent_cycles == ()
    with pytest.raises(UnknownTenant):
        await learner.get_learning_metrics("nobody")


async def test_status_history_versions_and_plan(learner: AutonomousLearner) -> None:
    status = await learner.status(TENANT)
    assert status.champion is not None
    assert status.champion.version == (await learner.versions(TENANT))[0].version
    assert status.last_cycle == (await learner.history(TENANT))[0]
    plan = await learner.plan_learning_cycle(TENANT)
    assert not plan.would_run
    assert plan.why


async def test_the_journal_and_the_versions_are_read_in_pages_with_a_cursor(
    learner: AutonomousLearner,
) -> None:
    await learner.trigger_learning_cycle(TENANT)
    first = await learner.journal(TENANT, limit=1)
    rest = await learner.journal(TENANT, since=first[-1].seq or 0)
    assert [row.result.status for row in (*first, *rest) if row.result] == ["deployed", "skipped"]
    assert await learner.journal(TENANT, since=rest[-1].seq or 0) == []
    version = (await learner.versions(TENANT))[0].version
    assert await learner.versions(TENANT, since=version) == []


async def test_export_and_ingest(learner: AutonomousLearner, tmp_path: Path) -> None:
    exported = await learner.export(TENANT, tmp_path / "examples.jsonl")
    assert exported == len((tmp_path / "examples.jsonl").read_text().splitlines())
    report = await learner.ingest("another_tenant", tmp_path / "examples.jsonl")
    assert (report.examples, report.skipped_count) == (exported, 0)


# Rollback -------------------------------------------------------------------------------------


async def test_rollback_by_version_and_by_backup(learner: AutonomousLearner) -> None:
    first = (await learner.status(TENANT)).champion
    assert first is not None
    forced = await learner.bootstrap(
        TENANT, [{"text": f"sing song {n}", "intent": "music"} for n in range(30)]
    )
    assert forced.status == "deployed", forced.error_message
    back = await learner.rollback(TENANT)
    assert back.version == first.version
    assert (await learner.analyze(TENANT, "balance")).model_version == first.version
    await learner.rollback(TENANT, forced.model_version)
    assert isinstance(learner.training_pipeline, IncrementalTrainingPipeline)
    assert forced.backup_path is not None
    restored = await learner.training_pipeline.rollback_model(forced.backup_path)
    assert restored.version == first.version
    assert [cycle.status for cycle in (await learner.history(TENANT))[:3]] == ["rolled_back"] * 3


# Settings -------------------------------------------------------------------------------------


async def test_the_three_configs_and_their_defaults(home: Path) -> None:
    learner = create_autonomous_learner(home)
    learning, training, thresholds = (
        learner.learning_config,
        learner.training_config,
        learner.validation_thresholds,
    )
    assert learning.min_data_threshold == 50
    assert learning.quality_threshold == 0.7
    assert learning.validation_threshold == 0.85
    assert learning.max_training_examples == 1000
    assert learning.replay_examples == 1500
    assert learning.backup_retention_days == 30
    assert (training.n_iter, training.batch_size, training.dropout) == (10, 32, 0.2)
    assert (training.learn_rate, training.validation_split) == (0.001, 0.2)
    assert (thresholds.accuracy, thresholds.intent_accuracy) == (0.85, 0.80)
    assert (thresholds.sentiment_accuracy, thresholds.entity_accuracy) == (0.75, 0.70)
    learning.update({"validation_threshold": 0.9, "min_data_threshold": 20})
    assert thresholds.accuracy == 0.9
    with pytest.raises(SettingsError, match="did you mean 'min_data_threshold'"):
        learning.update({"min_data_treshold": 5})
    await learner.close()


# Public parts ---------------------------------------------------------------------------------


async def test_create_spacy_analyzer_works_without_a_learner() -> None:
    rules = load_settings(overrides={"analysis.fallback": "rules"})
    async with create_spacy_analyzer(settings=rules) as analyzer:
        assert isinstance(analyzer, SpacyAnalyzer)
        analysis = await analyzer.analyze("this is great, thanks!")
        assert analysis.degraded
        assert (await analyzer.sentiment("this is great, thanks!"))[0] == "positive"
        intent, confidence = await analyzer.detect_intent("hello")
        assert intent is None or confidence <= 0.5
        assert isinstance(await analyzer.entities("it costs 20 euros"), tuple)


async def test_an_existing_pipeline_is_trained(home: Path) -> None:
    nlp = spacy.blank("en")
    ner = nlp.add_pipe("ner")
    ner.add_label("place")
    nlp.initialize()
    analyzer = create_spacy_analyzer(nlp, tasks={"entities": "ner"})
    async with create_autonomous_learner(home, spacy_analyzer=analyzer, overrides=QUICK) as learner:
        assert not (await learner.analyze(TENANT, "fly me to rome")).degraded
        result = await learner.bootstrap(TENANT, seed_examples())
        assert result.status == "deployed"
        assert (await learner.analyze(TENANT, "fly me to rome")).intent == "travel"


async def test_a_host_supplies_analyzer_and_memory(home: Path, tmp_path: Path) -> None:
    class Analyzer:
        deployed: tuple[str, Path] | None = None

        async def analyze(self, text: str, *, tenant_id: str | None = None) -> Analysis:
            return Analysis(intent="travel", intent_confidence=0.7, sentiment=None, sentiment_confidence=0.0)

        async def on_deployed(self, version: str, path: Path) -> None:
            self.deployed = version, path

    class Memory:
        def __init__(self) -> None:
            self.turns: list[Any] = []

        async def remember(self, turn: Any) -> None:
            self.turns.append(turn)

    analyzer, memory = Analyzer(), Memory()
    async with create_autonomous_learner(
        home,
        spacy_analyzer=analyzer,
        memory_service=memory,
        model_backup_dir=tmp_path / "model_backups",
        overrides=QUICK,
    ) as learner:
        result = await learner.bootstrap(TENANT, seed_examples())
        metadata = await learner.collect_conversation_metadata(TENANT, "anything", "ok", "u")
    assert metadata.intent_detected == "travel"
    assert metadata.intent_confidence == 0.7
    assert analyzer.deployed is not None
    assert analyzer.deployed[0] == result.model_version
    assert (analyzer.deployed[1] / "config.cfg").is_file()
    assert [turn.turn_id for turn in memory.turns] == [metadata.turn_id]
    assert list((tmp_path / "model_backups").rglob("*.tar.gz"))


async def test_an_analyzer_may_close_the_learner_on_a_deployment(home: Path) -> None:
    class Analyzer:
        async def analyze(self, text: str, *, tenant_id: str | None = None) -> Analysis:
            return Analysis(intent=None, intent_confidence=0.0, sentiment=None, sentiment_confidence=0.0)

        async def on_deployed(self, version: str, path: Path) -> None:
            await learner.close()

    learner = create_autonomous_learner(home, spacy_analyzer=Analyzer(), overrides=QUICK)
    with pytest.raises(LearnerClosed):
        await learner.bootstrap(TENANT, seed_examples())
    async with create_autonomous_learner(home, overrides=QUICK) as after:
        assert await after.store.champion(TENANT) is not None


async def test_a_host_supplies_gate_and_sanitizer(home: Path) -> None:
    REFUSED = GateCheck(name="never", passed=False, detail="never")

    class Refusal:
        async def judge(self, evidence: Any) -> Verdict:
            return Verdict(accepted=False, harmful=False, improved=(), checks=(REFUSED,))

    class Mask:
        def sanitize(self, text: str) -> str:
            return text.replace("secret", "xxxxxx")

    async with AutonomousLearner(home, overrides=QUICK, gate=Refusal(), sanitizer=Mask()) as learner:
        metadata = await learner.collect_conversation_metadata(TENANT, "my secret", "a secret", "u")
        turn = await learner.store.get_turn(TENANT, metadata.turn_id)
        assert turn is not None
        assert (turn.user_text, turn.assistant_response) == ("my xxxxxx", "a xxxxxx")
        result = await learner.bootstrap(TENANT, seed_examples())
        assert (result.status, result.error_message) == ("rejected", "never")


async def test_the_class_accepts_the_keywords_of_the_factory(home: Path, tmp_path: Path) -> None:
    async with create_spacy_analyzer() as analyzer:
        learner = AutonomousLearner(
            home, spacy_analyzer=analyzer, memory_service=None, model_backup_dir=tmp_path / "safe",
            overrides=QUICK,
        )  # fmt: skip
        async with learner:
            assert learner.analyzer is analyzer
            assert learner.layout.backups(TENANT).parent == tmp_path / "safe"
            assert learner.learning_config.min_data_threshold == 10
            assert (await learner.analyze(TENANT, "hello")).degraded


async def test_results_can_be_read_by_key(learner: AutonomousLearner) -> None:
    metrics = await learner.get_learning_metrics(TENANT)
    assert metrics["last_cycle"]["status"] == "deployed"
    assert "total_cycles" in metrics
    assert dict(metrics)["total_cycles"] == metrics.get("total_cycles") == 1


async def test_the_public_names_exist(learner: AutonomousLearner) -> None:
    assert hasattr(MemoryStore, "add_turn")
    assert isinstance(learner.training_pipeline, IncrementalTrainingPipeline)
    assert ConversationMetadataCollector(learner.store, learner.analyzer, learner.settings)
    assert ModelValidator(learner.settings)


async def test_the_pipeline_of_a_learner_does_not_print_its_settings(tmp_path: Path) -> None:
    learner = create_autonomous_learner(tmp_path)
    assert "Settings(" in repr(learner.settings)  # with the password in store.url
    assert "Settings(" not in repr(learner.training_pipeline)
    assert learner.training_pipeline in {learner.training_pipeline}
    await learner.close()


# Lifecycle ------------------------------------------------------------------------------------


async def test_it_starts_on_first_use_and_close_ends_it(home: Path) -> None:
    learner = create_autonomous_learner(home=home)
    await learner.collect_conversation_metadata(TENANT, "hello", "hi", "u")
    await learner.close()
    await learner.close()
    with pytest.raises(LearnerClosed):
        await learner.analyze(TENANT, "hello")


async def test_data_survive_a_restart(home: Path) -> None:
    async with create_autonomous_learner(home, overrides=QUICK) as learner:
        version = (await learner.bootstrap(TENANT, seed_examples())).model_version
        await learner.collect_conversation_metadata(TENANT, "hello", "hi", "u")
    async with create_autonomous_learner(home, overrides=QUICK) as learner:
        assert (await learner.analyze(TENANT, "fly me to oslo")).model_version == version
        assert (await learner.status(TENANT)).counts.turns == 1
