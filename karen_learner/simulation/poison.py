"""A poisoning attack: several users send the same wrong labels."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence

from asyncio_extras import call_in_executor

from karen_learner.learner import AutonomousLearner
from karen_learner.models.versions import candidate_digest
from karen_learner.records import TASKS, LabelledText, LearningCycleResult, Record, Task
from karen_learner.simulation.run import CONCURRENT_TURNS, RESPONSE
from karen_learner.simulation.scenario import cut_every
from karen_learner.simulation.scoring import Scores, evaluate
from karen_learner.simulation.users import Feedback, Labels, correction

Shuffle = Mapping[Task, Mapping[str, str]]


class Attack(Record):
    """Result of an attack. The digests are those of the live model's files on disk."""

    turns: int
    users: int
    result: LearningCycleResult
    digest_before: str
    digest_after: str
    scores_before: Scores
    scores_after: Scores

    @property
    def rejected(self) -> bool:
        """Whether the gate rejected the poisoned candidate."""
        return self.result.status == "rejected"

    @property
    def unchanged(self) -> bool:
        return self.digest_before == self.digest_after


def label_permutation(labels: Labels, *, seed: int) -> Shuffle:
    """A cyclic permutation of the labels of each task. A single label maps to itself."""
    rng = random.Random(f"{seed}/poison")  # noqa: S311 - a simulation, no secret
    return {task: _cycled(labels[task], rng) for task in TASKS if task in labels}


def _cycled(labels: Sequence[str], rng: random.Random) -> dict[str, str]:
    order = list(labels)
    rng.shuffle(order)
    return dict(zip(order, [*order[1:], *order[:1]], strict=True))


def poisoned_feedback(gold: LabelledText, shuffle: Shuffle) -> Feedback:
    """A correction of all labels to wrong ones, and a poor rating."""
    false = gold.model_copy(
        update={
            "intent": _wrong(shuffle, "intent", gold.intent),
            "sentiment": _wrong(shuffle, "sentiment", gold.sentiment),
            "entities": None if gold.entities is None else tuple(
                span.model_copy(update={"label": _wrong(shuffle, "entities", span.label)})
                for span in gold.entities
            ),
        }
    )  # fmt: skip
    return correction(false, gold.tasks) | {"satisfaction_score": 0.0, "response_quality": 0.0}


def _wrong(shuffle: Shuffle, task: Task, label: str | None) -> str | None:
    return None if label is None else shuffle.get(task, {}).get(label, label)


async def attack(
    learner: AutonomousLearner,
    tenant_id: str,
    texts: Sequence[LabelledText],
    test: Sequence[LabelledText],
    *,
    labels: Labels,
    users: int = 20,
    seed: int = 0,
) -> Attack:
    """Send poisoned feedback of `users` people on new texts, then run a cycle.

    Raises TrainingError, StoreError.
    """
    digest_before = await live_digest(learner, tenant_id)
    scores_before = await evaluate(learner, tenant_id, test)
    shuffle = label_permutation(labels, seed=seed)
    for batch in cut_every(list(enumerate(texts)), CONCURRENT_TURNS):
        await asyncio.gather(
            *(
                learner.collect_conversation_metadata(
                    tenant_id, gold.text, RESPONSE, f"attacker-{place % users + 1:03d}",
                    poisoned_feedback(gold, shuffle), turn_id=f"poison-{place:07d}",
                )
                for place, gold in batch
            )
        )  # fmt: skip
    result = await learner.trigger_learning_cycle(tenant_id, force_training=True, reason="poisoned feedback")
    return Attack(
        turns=len(texts),
        users=min(users, len(texts)),
        result=result,
        digest_before=digest_before,
        digest_after=await live_digest(learner, tenant_id),
        scores_before=scores_before,
        scores_after=await evaluate(learner, tenant_id, test),
    )


async def live_digest(learner: AutonomousLearner, tenant_id: str) -> str:
    """Digest of the champion's files on disk; "" without a champion."""
    champion = (await learner.status(tenant_id)).champion
    return "" if champion is None else await call_in_executor(candidate_digest, champion.path)
