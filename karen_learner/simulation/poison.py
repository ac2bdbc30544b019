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
from karen_learner.simulation.users import Feedback, Labels, correction, relabelled

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
    shuffle: dict[Task, dict[str, str]] = {}
    for task in TASKS:
        order = list(labels.get(task, ()))
        rng.shuffle(order)
        shuffle[task] = dict(zip(order, [*order[1:], *order[:1]], strict=True))
    return shuffle


def poisoned_feedback(gold: LabelledText, shuffle: Shuffle) -> Feedback:
    """A correction of all labels to wrong ones, and a poor rating."""
    wrong = relabelled(gold, lambda task, label: shuffle[task].get(label, label))
    return correction(wrong, gold.tasks) | {"satisfaction_score": 0.0, "response_quality": 0.0}


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
    """Digest of the files of the version that serves, on disk; "" without one."""
    serving = (await learner.status(tenant_id)).serving
    return "" if serving is None else await call_in_executor(candidate_digest, serving.path)
