"""The main job on labelled texts: the live model answers, users react, cycles run, the test file judges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from time import perf_counter
from typing import Any

from asyncio_extras import call_in_executor

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
from karen_learner.simulation.scenario import Scenario
from karen_learner.simulation.scoring import Scores, row_of, score
from karen_learner.simulation.stream import cut_every, divide
from karen_learner.simulation.users import Answer, Crowd, Feedback

CONCURRENT_TURNS = 64
RESPONSE = "(the answer of a simulated assistant)"


class Exchange(Record):
    """One turn as the user lived through it: what was said, understood, and said of that."""

    position: int
    user_id: str
    gold: LabelledText
    answer: Answer
    feedback: Mapping[str, Any] | None


OnExchange = Callable[[Exchange], None]


class Step(Record):
    """One row: what happened since the row before, what the cycle did, how the live model does now.

    `cycle` 0 is the bootstrap, where nobody has spoken yet. `scores` are those of the model that is live
    after the cycle, on the test texts. `talk_s`: seconds of the conversations; `cycle_s`: of the cycle.
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
    talk_s: float = 0.0
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
    """Bootstrap, then let the crowd speak and run a cycle, again and again; a step after each cycle.

    Cycles are forced: they run however few new examples there are. The tenant must be new. Raises
    TrainingError when the bootstrap gives no model.
    """
    division = divide(corpus.train, scenario)
    result = await learner.bootstrap(tenant_id, division.gold)
    if result.status != "deployed":
        raise TrainingError(f"the bootstrap gave no model to start from: {result.error_message}")
    yield _step(0, result, await evaluate(learner, tenant_id, corpus.test))
    crowd = Crowd(users=scenario.users, habits=scenario.habits, labels=corpus.labels, seed=scenario.seed)
    position = 0
    for cycle, texts in enumerate(division.cycles, start=1):
        talk = Talk(learner, tenant_id, crowd, on_exchange=on_exchange)
        await talk.hold(texts, first=position)
        position += len(texts)
        result = await learner.trigger_learning_cycle(
            tenant_id, force_training=True, mode=scenario.mode, reason=f"simulation, cycle {cycle}"
        )
        yield _step(cycle, result, await evaluate(learner, tenant_id, corpus.test), talk)


async def evaluate(learner: AutonomousLearner, tenant_id: str, test: Sequence[LabelledText]) -> Scores:
    """The scores of the live model on the test texts; nothing is stored."""
    analyses = await learner.analyze_many(tenant_id, [example.text for example in test])
    scores: Scores = await call_in_executor(score, test, [row_of(analysis) for analysis in analyses])
    return scores


class Talk:
    """Conversations of a crowd with the live model, and what came of them."""

    def __init__(
        self,
        learner: AutonomousLearner,
        tenant_id: str,
        crowd: Crowd,
        *,
        on_exchange: OnExchange | None = None,
    ) -> None:
        self._learner = learner
        self._tenant_id = tenant_id
        self._crowd = crowd
        self._on_exchange = on_exchange
        self.turns = self.feedback = self.corrections = 0
        self.seconds = 0.0

    async def hold(self, texts: Sequence[LabelledText], *, first: int) -> None:
        """Speak the texts, many at a time; `first` is the position of the first one in the stream."""
        started = perf_counter()
        placed = list(enumerate(texts, start=first))
        for wave in cut_every(placed, CONCURRENT_TURNS):
            answered = await asyncio.gather(*(self._say(position, gold) for position, gold in wave))
            exchanges = [
                self._heard(*place, metadata) for place, metadata in zip(wave, answered, strict=True)
            ]
            await asyncio.gather(*(self._tell(exchange) for exchange in exchanges))
        self.seconds += perf_counter() - started

    async def _say(self, position: int, gold: LabelledText) -> ConversationMetadata:
        speaker = self._crowd.speaker(position)
        return await self._learner.collect_conversation_metadata(
            self._tenant_id, gold.text, RESPONSE, speaker, turn_id=_turn_id(position)
        )

    def _heard(self, position: int, gold: LabelledText, metadata: ConversationMetadata) -> Exchange:
        answer = Answer.of(metadata)
        return Exchange(
            position=position,
            user_id=metadata.user_id,
            gold=gold,
            answer=answer,
            feedback=self._crowd.react(position, gold, answer),
        )

    async def _tell(self, exchange: Exchange) -> None:
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


def _step(cycle: int, result: LearningCycleResult, scores: Scores, talk: Talk | None = None) -> Step:
    return Step(
        cycle=cycle,
        turns=talk.turns if talk else 0,
        feedback=talk.feedback if talk else 0,
        corrections=talk.corrections if talk else 0,
        new_examples=result.training_examples,
        replay_examples=result.replay_examples,
        curation=result.curation,
        mode=result.mode,
        status=result.status,
        version=result.model_version,
        holdout_accuracy=result.validation.accuracy if result.validation else None,
        scores=scores,
        talk_s=talk.seconds if talk else 0.0,
        cycle_s=result.duration_s,
        stage_seconds=result.stage_seconds,
        message=result.error_message,
    )
