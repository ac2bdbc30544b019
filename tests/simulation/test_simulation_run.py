from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from karen_learner import create_autonomous_learner
from karen_learner.errors import TrainingError
from karen_learner.simulation import Corpus, Exchange, FeedbackRates, Scenario, Step, attack, refit, simulate
from karen_learner.simulation.plot import draw

MakeCorpus = Callable[[int, int], Corpus]
TINY = {
    "training.n_iter": 3,
    "training.min_updates": 20,
    "training.learn_rate": 0.01,
    "training.batch_size": 8,
}


def intents_only(corpus: Corpus) -> Corpus:
    """The corpus without sentiments and entities: training is faster."""
    train, test = (
        tuple(text.model_copy(update={"sentiment": None, "entities": None}) for text in part)
        for part in (corpus.train, corpus.test)
    )
    return Corpus(train=train, test=test)


RATES = FeedbackRates(correction_rate=1.0, rating_rate=0.5)


async def test_a_simulation_yields_steps_scores_and_a_refit(make_corpus: MakeCorpus, tmp_path: Path) -> None:
    corpus = make_corpus(80, 20)
    scenario = Scenario(shots=8, rates=RATES, users=5, cycles=2, limit=40)
    exchanges: list[Exchange] = []
    async with create_autonomous_learner(tmp_path / "home", overrides=TINY) as learner:
        steps = [
            step async for step in simulate(learner, "t", corpus, scenario, on_exchange=exchanges.append)
        ]
        counts = (await learner.status("t")).counts
        found = await refit(learner, "t", corpus.test, folder=tmp_path / "refit")
        labelled = counts.examples["learned"] + counts.examples.get("pending", 0)

    assert [step.cycle for step in steps] == [0, 1, 2]
    assert [step.turns for step in steps] == [0, 20, 20]
    assert (counts.turns, counts.with_feedback) == (40, sum(step.feedback for step in steps))
    assert counts.corrections == sum(step.corrections for step in steps)
    _check_counts(steps, exchanges)
    for step in steps:
        assert set(step.scores.by_task) == {"intent", "sentiment", "entities"}
        assert step.version is not None
        assert step.cycle_s >= step.stage_seconds["training"] > 0
    assert found.training_examples == labelled
    assert set(found.scores.by_task) == {"intent", "sentiment", "entities"}
    draw(steps, found, tmp_path / "run.png")
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")


def _check_counts(steps: list[Step], exchanges: list[Exchange]) -> None:
    assert steps[0].status == "deployed"
    assert steps[0].feedback == steps[0].corrections == 0
    assert sorted(exchange.position for exchange in exchanges) == list(range(40))
    assert sum(step.feedback for step in steps) == sum(one.feedback is not None for one in exchanges)
    for step in steps[1:]:
        assert step.curation is not None
        assert step.curation.turns == step.feedback
        assert step.corrections <= step.feedback <= step.turns


async def test_a_poisoned_candidate_is_rejected_and_the_live_model_is_unchanged(
    make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    corpus = intents_only(make_corpus(400, 30))
    gold, texts = corpus.train[:100], corpus.train[100:]
    more = TINY | {"training.n_iter": 8, "training.min_updates": 100}
    async with create_autonomous_learner(tmp_path, overrides=more) as learner:
        await learner.bootstrap("t", gold)
        found = await attack(learner, "t", texts, corpus.test, labels=corpus.labels, users=6)
        champion = (await learner.status("t")).champion

    assert found.rejected, found.result.error_message
    assert found.unchanged
    assert champion is not None
    assert champion.digest == found.digest_before == found.digest_after
    assert found.scores_after == found.scores_before
    assert (found.turns, found.users) == (300, 6)
    assert found.result.verdict is not None
    assert found.result.verdict.harmful


async def test_a_bootstrap_without_a_model_ends_the_simulation(
    make_corpus: MakeCorpus, tmp_path: Path
) -> None:
    corpus = make_corpus(30, 6)
    train = [text.model_copy(update={"intent": "same"}) for text in intents_only(corpus).train]
    lone = Corpus(train=tuple(train), test=corpus.test)
    async with create_autonomous_learner(tmp_path, overrides=TINY) as learner:
        with pytest.raises(TrainingError, match="bootstrap deployed no model"):
            await anext(simulate(learner, "t", lone, Scenario(shots=4)))
