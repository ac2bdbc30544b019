"""Simulation runs: turns of simulated users, learning cycles, scores on test texts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

from karen_learner.errors import TrainingError
from karen_learner.learner import AutonomousLearner
from karen_learner.records import (
    CurationCounts,
    CycleMode,
    CycleStatus,
    Decision,
    LabelledText,
    LearningCycleResult,
    Record,
)
from karen_learner.simulation.corpora import Corpus
from karen_learner.simulation.scenario import Scenario, cut_every, plan_stream
from karen_learner.simulation.scoring import Scores, evaluate
from karen_learner.simulation.users import Answer, SimulatedUsers

CONCURRENT_TURNS = 64
RESPONSE = "(response of a simulated assistant)"


class Exchange(Record):
    """One turn: the text, its analysis, and the feedback."""

    position: int
    user_id: str
    gold: LabelledText
    answer: Answer
    feedback: Mapping[str, Any] | None

    @property
    def is_corrected(self) -> bool:
        return any(key.startswith("corrected_") for key in self.feedback or ())


OnExchange = Callable[[Exchange], None]


class Step(Record):
    """Turns before a cycle, its result, and the scores of the live model after it.

    `cycle` 0 is the bootstrap, without turns. `scores` are measured on the test texts. `turns_s`: seconds of
    the turns; `cycle_s`: of the cycle.
    """

    cycle: int
    turns: int
    feedback: int
    corrections: int
    new_examples: int
    replay_examples: int
    curation: CurationCounts | None
    mode: CycleMode
    status: CycleStatus
    version: str | None
    out_of_fold_accuracy: float | None
    scores: Scores
    turns_s: float
    cycle_s: float
    stage_seconds: Mapping[str, float]
    message: str | None
    decision: Decision | None = None


async def simulate(
    learner: AutonomousLearner,
    tenant_id: str,
    corpus: Corpus,
    scenario: Scenario,
    *,
    on_exchange: OnExchange | None = None,
) -> AsyncIterator[Step]:
    """Bootstrap, then alternate turns of simulated users with forced cycles. Yields a step after each cycle.

    The tenant must be new. Raises TrainingError if the bootstrap deploys no model.
    """
    plan = plan_stream(corpus.train, scenario)
    result = await learner.bootstrap(tenant_id, plan.gold)
    if result.status != "deployed":
        raise TrainingError(f"the bootstrap deployed no model: {result.error_message}")
    yield _step(0, result, await evaluate(learner, tenant_id, corpus.test))
    users = SimulatedUsers(
        users=scenario.users, rates=scenario.rates, labels=corpus.labels, seed=scenario.seed
    )
    position = 0
    for cycle, texts in enumerate(plan.cycles, start=1):
        started = perf_counter()
        exchanges = await _converse(learner, tenant_id, users, texts, first=position)
        turns_s = perf_counter() - started
        if on_exchange is not None:
            for exchange in exchanges:
                on_exchange(exchange)
        position += len(texts)
        result = await learner.trigger_learning_cycle(
            tenant_id, force_training=True, mode=scenario.mode, reason=f"simulation, cycle {cycle}"
        )
        scores = await evaluate(learner, tenant_id, corpus.test)
        yield _step(cycle, result, scores, exchanges, turns_s=turns_s)


async def _converse(
    learner: AutonomousLearner,
    tenant_id: str,
    users: SimulatedUsers,
    texts: Sequence[LabelledText],
    *,
    first: int,
) -> list[Exchange]:
    """Send the texts, CONCURRENT_TURNS at a time. `first`: position of the first text in the stream."""

    async def send(position: int, gold: LabelledText) -> Exchange:
        user_id = users.user_id(position)
        metadata = await learner.collect_conversation_metadata(
            tenant_id, gold.text, RESPONSE, user_id, turn_id=_turn_id(position)
        )
        answer = Answer(
            intent=metadata.intent_detected,
            sentiment=metadata.sentiment_detected,
            entities=metadata.entities_extracted,
        )
        feedback = users.react(position, gold, answer)
        return Exchange(position=position, user_id=user_id, gold=gold, answer=answer, feedback=feedback)

    exchanges: list[Exchange] = []
    for batch in cut_every(list(enumerate(texts, start=first)), CONCURRENT_TURNS):
        answered = await asyncio.gather(*(send(position, gold) for position, gold in batch))
        given = [(one.position, one.feedback) for one in answered if one.feedback is not None]
        await asyncio.gather(
            *(learner.add_feedback(tenant_id, _turn_id(position), stated) for position, stated in given)
        )
        exchanges += answered
    return exchanges


def _turn_id(position: int) -> str:
    return f"turn-{position:07d}"


def _step(
    cycle: int,
    result: LearningCycleResult,
    scores: Scores,
    exchanges: Sequence[Exchange] = (),
    *,
    turns_s: float = 0.0,
) -> Step:
    return Step(
        cycle=cycle,
        turns=len(exchanges),
        feedback=sum(exchange.feedback is not None for exchange in exchanges),
        corrections=sum(exchange.is_corrected for exchange in exchanges),
        new_examples=result.training_examples,
        replay_examples=result.replay_examples,
        curation=result.curation,
        mode=result.mode,
        status=result.status,
        version=result.model_version,
        out_of_fold_accuracy=result.validation.accuracy if result.validation else None,
        scores=scores,
        turns_s=turns_s,
        cycle_s=result.duration_s,
        stage_seconds=result.stage_seconds,
        message=result.error_message,
        decision=result.verdict.decision if result.verdict is not None else None,
    )
