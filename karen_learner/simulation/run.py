"""Simulation runs: turns of simulated users, learning cycles, scores on test texts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

from karen_learner.errors import TrainingError
from karen_learner.learner import AutonomousLearner
from karen_learner.records import (
    ConversationMetadata,
    CurationCounts,
    CycleMode,
    CycleStatus,
    LabelledText,
    LearningCycleResult,
    Record,
)
from karen_learner.simulation.corpora import Corpus
from karen_learner.simulation.scenario import Scenario, cut_every, plan_stream
from karen_learner.simulation.scoring import Scores, evaluate
from karen_learner.simulation.users import Answer, Feedback, SimulatedUsers

CONCURRENT_TURNS = 64
RESPONSE = "(response of a simulated assistant)"


class Exchange(Record):
    """One turn: the text, its analysis, and the feedback."""

    position: int
    user_id: str
    gold: LabelledText
    answer: Answer
    feedback: Mapping[str, Any] | None


OnExchange = Callable[[Exchange], None]


class Step(Record):
    """Turns before a cycle, its result, and the scores of the live model after it.

    `cycle` 0 is the bootstrap, without turns. `scores` are measured on the test texts. `turns_s`: seconds of
    the turns; `cycle_s`: of the cycle.
    """

    cycle: int
    turns: int = 0
    feedback: int = 0
    corrections: int = 0
    new_examples: int
    replay_examples: int
    curation: CurationCounts | None
    mode: CycleMode
    status: CycleStatus
    version: str | None
    holdout_accuracy: float | None
    scores: Scores
    turns_s: float = 0.0
    cycle_s: float
    stage_seconds: Mapping[str, float]
    message: str | None


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
        conversations = Conversations(learner, tenant_id, users, on_exchange=on_exchange)
        await conversations.run(texts, first=position)
        position += len(texts)
        result = await learner.trigger_learning_cycle(
            tenant_id, force_training=True, mode=scenario.mode, reason=f"simulation, cycle {cycle}"
        )
        yield _step(cycle, result, await evaluate(learner, tenant_id, corpus.test), conversations)


class Conversations:
    """Turns of simulated users with the live model, and their counts."""

    def __init__(
        self,
        learner: AutonomousLearner,
        tenant_id: str,
        users: SimulatedUsers,
        *,
        on_exchange: OnExchange | None = None,
    ) -> None:
        self._learner = learner
        self._tenant_id = tenant_id
        self._users = users
        self._on_exchange = on_exchange
        self.turns = self.feedback = self.corrections = 0
        self.seconds = 0.0

    async def run(self, texts: Sequence[LabelledText], *, first: int) -> None:
        """Send the texts, CONCURRENT_TURNS at a time. `first`: position of the first text in the stream."""
        started = perf_counter()
        numbered = list(enumerate(texts, start=first))
        for batch in cut_every(numbered, CONCURRENT_TURNS):
            answered = await asyncio.gather(*(self._send(position, gold) for position, gold in batch))
            exchanges = [
                self._exchange(*place, metadata) for place, metadata in zip(batch, answered, strict=True)
            ]
            await asyncio.gather(*(self._give_feedback(exchange) for exchange in exchanges))
        self.seconds += perf_counter() - started

    async def _send(self, position: int, gold: LabelledText) -> ConversationMetadata:
        user_id = self._users.user_id(position)
        return await self._learner.collect_conversation_metadata(
            self._tenant_id, gold.text, RESPONSE, user_id, turn_id=_turn_id(position)
        )

    def _exchange(self, position: int, gold: LabelledText, metadata: ConversationMetadata) -> Exchange:
        answer = Answer.of(metadata)
        return Exchange(
            position=position,
            user_id=metadata.user_id,
            gold=gold,
            answer=answer,
            feedback=self._users.react(position, gold, answer),
        )

    async def _give_feedback(self, exchange: Exchange) -> None:
        if exchange.feedback is not None:
            await self._learner.add_feedback(self._tenant_id, _turn_id(exchange.position), exchange.feedback)
        self._count(exchange.feedback)
        if self._on_exchange is not None:
            self._on_exchange(exchange)

    def _count(self, feedback: Feedback | Mapping[str, Any] | None) -> None:
        self.turns += 1
        self.feedback += feedback is not None
        self.corrections += any(key.startswith("corrected_") for key in feedback or ())


def _turn_id(position: int) -> str:
    return f"turn-{position:07d}"


def _step(
    cycle: int, result: LearningCycleResult, scores: Scores, conversations: Conversations | None = None
) -> Step:
    return Step(
        cycle=cycle,
        turns=conversations.turns if conversations else 0,
        feedback=conversations.feedback if conversations else 0,
        corrections=conversations.corrections if conversations else 0,
        new_examples=result.training_examples,
        replay_examples=result.replay_examples,
        curation=result.curation,
        mode=result.mode,
        status=result.status,
        version=result.model_version,
        holdout_accuracy=result.validation.accuracy if result.validation else None,
        scores=scores,
        turns_s=conversations.seconds if conversations else 0.0,
        cycle_s=result.duration_s,
        stage_seconds=result.stage_seconds,
        message=result.error_message,
    )
