"""Intents whose meaning has changed: several people call texts otherwise of which the model is sure.

Gold ages. Texts that the model takes for A, because old gold says so, are called B by people. The evidence is
the newest run of feedback on texts that were detected as A:

- at least a quorum of people says B, and at least MAJORITY of all who say A or B; each counts once;
- without a change, so many errors are improbable at the confidences that the model had (binomial tail).
  Feedback is selected: where people correct errors and confirm few right answers, errors are frequent in it.
  So the odds of an error are multiplied by how much more often errors get feedback than right answers. At
  most the share LEVEL of the found changes is expected to be false (Benjamini and Hochberg, *Journal of the
  Royal Statistical Society B* 57, 1995): many changes at once need less evidence each;
- the model has detected B before. Otherwise it does not know B, or takes all texts of B for others.

So corrections of phrasings that the model does not know, of which it is unsure, change no meaning.

Older examples of such an intent get the present one, gold included. The statements that changed the meaning
count as corrections of the older texts, too. So the rules of `resolution.py` set the gold label aside. Gold
that is added again, or withdrawn consent, restores it. A cycle trains on the present intents. They are stored
when its candidate serves. A rejected candidate leaves the examples as they are.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from asyncio_extras import call_in_executor

from karen_learner.concurrency import pages
from karen_learner.contracts import MemoryStore
from karen_learner.curation.examples import CORRECTION, LOWEST_GOOD_RATING, combined_rating
from karen_learner.curation.resolver import LabelResolver, NewContribution
from karen_learner.metrics import binomial_tail
from karen_learner.records import Contribution, CurationWrite, Example, ReadSet, Turn

LEVEL = 0.05
"""The expected share of false changes among those found."""
MAJORITY = 0.9
"""The share of people who must say the new label, of those who say it or the former one."""
MAX_CONFIDENCE = 0.95
"""A higher confidence counts as this: some errors have other causes than the model's doubt."""


@dataclass(frozen=True, kw_only=True)
class StatedIntent:
    """The intent that a model detected in a turn, and the one that a person states; None without feedback."""

    turn_id: str
    at: datetime
    person: str
    detected: str
    confidence: float
    stated: str | None


@dataclass(frozen=True, kw_only=True)
class ChangedMeaning:
    """Texts of the intent `former` are the intent `present`, as `people` people have stated `since` a time.

    `statements` are the newest ones of a quorum of them. Without a change, this or more has the probability
    `p`.
    """

    former: str
    present: str
    people: int
    since: datetime
    statements: tuple[StatedIntent, ...]
    p: float


def stated_intent(turn: Turn) -> StatedIntent | None:
    """The detected and the stated intent of a turn; None if no model detected one.

    A good rating states the detected intent, unless another label was corrected.
    """
    found, feedback = turn.metadata, turn.feedback
    if found.degraded or found.intent_detected is None:
        return None
    stated = None
    if feedback is not None and turn.is_permitted:
        rating = combined_rating(feedback.satisfaction_score, feedback.response_quality)
        is_good = rating is not None and rating >= LOWEST_GOOD_RATING and not feedback.is_correction
        stated = feedback.corrected_intent or (found.intent_detected if is_good else None)
    return StatedIntent(
        turn_id=turn.turn_id,
        at=found.occurred_at,
        person=found.user_id,
        detected=found.intent_detected,
        confidence=min(found.intent_confidence, MAX_CONFIDENCE),
        stated=stated,
    )


def changed_meanings(statements: Sequence[StatedIntent], *, quorum: int) -> list[ChangedMeaning]:
    """The changed meanings of the statements, at most one of each former intent."""
    factor = _selection(statements)
    first_detected: dict[str, datetime] = {}
    by_detected: defaultdict[str, list[StatedIntent]] = defaultdict(list)
    for one in statements:
        first_detected.setdefault(one.detected, one.at)
        if one.stated is not None:
            by_detected[one.detected].append(one)
    found: list[ChangedMeaning] = []
    for former, stated in by_detected.items():
        others = {one.stated for one in stated if one.stated in first_detected} - {former}
        changes = [_change(former, other, stated, factor=factor, quorum=quorum) for other in others if other]
        known = [one for one in changes if one is not None and first_detected[one.present] < one.since]
        found += sorted(known, key=lambda one: (one.p, one.present))[:1]
    return _not_by_chance(found, tested=len(by_detected))


def _not_by_chance(found: Iterable[ChangedMeaning], *, tested: int) -> list[ChangedMeaning]:
    """The changes with the smallest p-values, as many as their share of chance allows."""
    ordered = sorted(found, key=lambda one: one.p)
    passed = [at for at, one in enumerate(ordered, start=1) if one.p <= LEVEL * at / tested]
    return ordered[: max(passed, default=0)]


def _selection(statements: Iterable[StatedIntent]) -> float:
    """How many times more often a wrong answer gets feedback than a right one, by the confidences."""
    wrong = right = expected_wrong = expected_right = 1.0
    for one in statements:
        expected_right += one.confidence
        expected_wrong += 1.0 - one.confidence
        wrong += one.stated not in (None, one.detected)
        right += one.stated == one.detected
    return (wrong / expected_wrong) / (right / expected_right)


def _change(
    former: str, present: str, stated: Iterable[StatedIntent], *, factor: float, quorum: int
) -> ChangedMeaning | None:
    run = _newest_run([one for one in stated if one.stated in (former, present)], present)
    votes = list({one.person: one for one in run}.values())
    against = [one for one in votes if one.stated == present]
    if len(against) < quorum or len(against) < MAJORITY * len(votes):
        return None
    chance = sum(_error_probability(one.confidence, factor) for one in votes) / len(votes)
    p = binomial_tail(len(against), len(votes), min(chance, MAX_CONFIDENCE))
    newest = sorted(against, key=lambda one: one.at)[-quorum:]
    return ChangedMeaning(
        former=former, present=present, people=len(against), since=run[0].at, statements=tuple(newest), p=p
    )


def _newest_run(stated: Sequence[StatedIntent], present: str) -> list[StatedIntent]:
    """The newest statements in which `present` has the largest lead."""
    lead, best, start = 0, 0, len(stated)
    for at in range(len(stated) - 1, -1, -1):
        lead += 1 if stated[at].stated == present else -1
        if lead > best:
            best, start = lead, at
    return list(stated[start:])


def _error_probability(confidence: float, factor: float) -> float:
    """The probability that an answer with feedback is wrong."""
    wrong = (1.0 - confidence) * factor
    return wrong / (wrong + confidence)


logger = logging.getLogger(__name__)

RECENT_TURNS = 2_000
"""Number of newest turns in which meanings are compared with the model's."""
PAGE = 500


@dataclass(frozen=True, kw_only=True)
class Outdated:
    """An example with the former intent, and `renewed` with the present one.

    `corrections` join the contributions to its text, whose `seq` are `known`.
    """

    example: Example
    renewed: Example
    known: tuple[int, ...]
    corrections: tuple[Contribution, ...]


async def outdated_examples(
    store: MemoryStore, tenant_id: str, *, quorum: int
) -> Mapping[str, Sequence[Outdated]]:
    """The examples that are older than the changed meaning of their intent, gold included.

    By a sentence for each intent with such examples. Texts whose people outvote the change are left out.
    """
    turns = await store.newest_turns(tenant_id, limit=RECENT_TURNS)
    changes: list[ChangedMeaning] = await call_in_executor(_changes, turns, quorum)
    found: dict[str, Sequence[Outdated]] = {}
    for change in changes:
        older = [one async for one in _older(store, tenant_id, change, quorum)]
        if older:
            found[
                f"{change.people} people say {change.present!r} for texts of {change.former!r}: "
                f"{len(older)} older examples of {change.former!r} become {change.present!r}"
            ] = older
    return found


async def store_renewed(
    store: MemoryStore,
    tenant_id: str,
    outdated: Iterable[Outdated],
    *,
    learned_in: str | None,
    token: int | None,
) -> None:
    """Store the present intents, as `learned_in` a version, or as pending. Raises FencedOut.

    An example that has changed since is left to the next cycle.
    """
    values = {"state": "learned" if learned_in else "pending", "learned_in": learned_in}
    count = 0
    async for page in pages(list(outdated), PAGE):
        keys = [one.example.key for one in page]
        examples, contributed = (
            await store.examples_by_key(tenant_id, keys),
            await _numbers(store, tenant_id, keys),
        )
        same = [
            one
            for one in page
            if _same(examples.get(one.example.key), one.example) and contributed[one.example.key] == one.known
        ]
        write = CurationWrite(
            upserts=[one.renewed.model_copy(update=values) for one in same],
            contributions=[each for one in same for each in one.corrections],
            read_set=ReadSet(
                examples={one.example.key: examples[one.example.key] for one in same},
                contributions={one.example.key: one.known for one in same},
            ),
        )
        if await store.save_curation(tenant_id, write, token=token):
            count += len(same)
    logger.warning("%s: %d examples get the present meaning of their intent", tenant_id, count)


async def _numbers(store: MemoryStore, tenant_id: str, keys: Sequence[str]) -> dict[str, tuple[int, ...]]:
    contributed = await store.contributions(tenant_id, keys)
    return {key: _seq(contributed.get(key, ())) for key in keys}


def _seq(contributed: Iterable[Contribution]) -> tuple[int, ...]:
    return tuple(each.seq or 0 for each in contributed)


def _same(now: Example | None, before: Example) -> bool:
    """Whether an example is unchanged but for the state, which the deployment changes."""
    state = {"state": before.state, "learned_in": before.learned_in}
    return now is not None and now.model_copy(update=state) == before


def _changes(turns: Sequence[Turn], quorum: int) -> list[ChangedMeaning]:
    return changed_meanings([one for turn in turns if (one := stated_intent(turn))], quorum=quorum)


async def _older(
    store: MemoryStore, tenant_id: str, change: ChangedMeaning, quorum: int
) -> AsyncIterator[Outdated]:
    async for page in pages(_examples(store, tenant_id, change.former), PAGE):
        contributed = await store.contributions(tenant_id, [one.key for one in page])
        older = [one for one in page if _is_older(one, contributed.get(one.key, ()), change)]
        for one in await call_in_executor(_renewed, older, contributed, change, quorum):
            yield one


async def _examples(store: MemoryStore, tenant_id: str, intent: str) -> AsyncIterator[Example]:
    """The learned and pending examples of an intent, which is their stratum."""
    counts = await store.strata(tenant_id, state="learned")
    for one in await store.sample_learned(tenant_id, intent, limit=counts.get(intent, 0)):
        yield one
    async for one in store.examples(tenant_id, state="pending"):
        if one.intent == intent:
            yield one


def _is_older(example: Example, contributed: Sequence[Contribution], change: ChangedMeaning) -> bool:
    """Whether no person has given the intent to the text since the change."""
    times = [each.occurred_at for each in contributed if each.intent == change.former]
    return max(times, default=example.created_at) < change.since


def _renewed(
    older: Sequence[Example],
    contributed: Mapping[str, Sequence[Contribution]],
    change: ChangedMeaning,
    quorum: int,
) -> list[Outdated]:
    """The examples that the statements give the present intent. The people of a text may outvote them."""
    resolver = LabelResolver({one.key: one for one in older}, contributed, quorum=quorum)
    resolver.resolve_all([_correction(each, one) for one in older for each in change.statements])
    contributions = resolver.contributions()
    return [
        Outdated(
            example=one,
            renewed=renewed,
            known=_seq(contributed.get(one.key, ())),
            corrections=tuple(each for each in contributions[one.key] if each.seq is None),
        )
        for one in older
        if (renewed := resolver.examples[one.key]).state == "pending" and renewed.intent == change.present
    ]


def _correction(statement: StatedIntent, example: Example) -> NewContribution:
    """The statement about a text of the former intent, applied to another one."""
    labels = {"intent": statement.stated, "sentiment": None, "entities": None, "unannotated": ()}
    origin = {
        "source": "correction",
        "quality": CORRECTION,
        "user_id": statement.person,
        "turn_id": statement.turn_id,
    }
    return NewContribution.of(example.model_copy(update={**labels, **origin}), statement.at)
