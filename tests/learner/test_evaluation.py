"""`learner.evaluate` and `learner.compare` from Python."""

from pathlib import Path

import pytest

from karen_learner import AutonomousLearner, LabelledText
from karen_learner.errors import InvalidInput, ModelError, UnknownTenant, UnknownVersion
from tests.conftest import ACME, MakeLearner, gold_examples


async def test_evaluate_takes_records_mappings_and_paths(acme: AutonomousLearner, tmp_path: Path) -> None:
    lines = gold_examples()
    records = [LabelledText.model_validate(line) for line in lines]
    file = tmp_path / "gold.jsonl"
    file.write_text("".join(record.model_dump_json(exclude_none=True) + "\n" for record in records))
    found = [await acme.evaluate(ACME, source) for source in (lines, records, file, str(file))]
    assert all(one == found[0] for one in found)
    assert found[0].texts == 45
    assert found[0].scores.counts["intent"] == 45


async def test_an_evaluation_equals_the_answers_of_the_live_model(acme: AutonomousLearner) -> None:
    texts = [line["text"] for line in gold_examples()]
    analyses = await acme.analyze_many(ACME, texts)
    intents = [analysis.intent for analysis in analyses]
    found = await acme.evaluate(ACME, [{"text": t, "intent": i} for t, i in zip(texts, intents, strict=True)])
    assert found.scores.intent_accuracy == 1.0
    assert found.degraded == 0
    assert found.scope is not None
    assert found.scope.out_of_scope == sum(analysis.out_of_scope for analysis in analyses) / len(texts)


async def test_a_model_without_a_threshold_finds_no_text_out_of_scope(make_learner: MakeLearner) -> None:
    async with make_learner(training__false_alarm_rate=0.001) as learner:  # needs 999 texts
        await learner.bootstrap("globex", gold_examples()[::2])
        assert (await learner.evaluate("globex", gold_examples())).scope is None


async def test_progress_counts_the_texts_of_each_version(acme: AutonomousLearner) -> None:
    lines, seen = gold_examples() * 10, list[tuple[int, int]]()
    await acme.evaluate(ACME, lines, on_texts=lambda done, total: seen.append((done, total)))
    assert seen == [(256, 450), (450, 450)]
    [version] = await acme.versions(ACME)
    seen.clear()
    name = version.version
    await acme.compare(ACME, name, name, lines, on_texts=lambda done, total: seen.append((done, total)))
    assert seen == [(256, 900), (450, 900), (706, 900), (900, 900)]


async def test_unusable_texts_are_skipped_with_their_position(acme: AutonomousLearner) -> None:
    limit = acme.settings.analysis.max_text_chars
    lines = [
        {"text": "good morning red friend", "intent": "greeting"},
        {"text": "no label"},
        {"text": "a " * limit, "intent": "greeting"},
        {"text": "alpha", "entities": [[0, 50, "PLAN"]]},
    ]
    found = await acme.evaluate(ACME, lines)
    assert found.texts == 1
    assert [line.line for line in found.skipped] == [2, 3, 4]
    assert "max_text_chars" in found.skipped[1].reason


async def test_errors_name_the_remedy(acme: AutonomousLearner) -> None:
    with pytest.raises(UnknownTenant):
        await acme.evaluate("nobody", gold_examples())
    with pytest.raises(UnknownVersion, match="karen-learner versions"):
        await acme.compare(ACME, "v1", "v2", gold_examples())
    with pytest.raises(InvalidInput, match="no line of the examples can be evaluated"):
        await acme.evaluate(ACME, [])


async def test_a_damaged_version_is_restored_or_refused(acme: AutonomousLearner) -> None:
    [version] = await acme.versions(ACME)
    (version.path / "meta.json").unlink()
    assert (await acme.evaluate(ACME, gold_examples())).texts == 45
    (version.path / "meta.json").unlink()
    assert version.backup_path is not None
    version.backup_path.unlink()
    with pytest.raises(ModelError, match="damaged"):
        await acme.evaluate(ACME, gold_examples())
