"""Intents whose meaning has changed: several people call texts otherwise of which the model is sure. Pure.

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
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from karen_learner.curation.examples import LOWEST_GOOD_RATING, combined_rating
from karen_learner.metrics import binomial_tail
from karen_learner.records import Turn

LEVEL = 0.05
"""The expected share of false changes among those found."""
MAJORITY = 0.9
"""The share of people who must say the new label, of those who say it or the former one."""
MAX_CONFIDENCE = 0.95
"""A higher confidence counts as this: some errors have other causes than the model's doubt."""


@dataclass(frozen=True, kw_only=True)
class Said:
    """The intent that a model detected in a turn, and the one that a person states; None without feedback."""

    turn_id: str
    at: datetime
    person: str
    detected: str
    confidence: float
    stated: str | None


@dataclass(frozen=True, kw_only=True)
class ChangedMeaning:
    """Texts of the intent `former` are the intent `present`, as `people` people have said `since` a time.

    `statements` are the newest ones of a quorum of them. Without a change, this or more has the probability
    `p`.
    """

    former: str
    present: str
    people: int
    since: datetime
    statements: tuple[Said, ...]
    p: float


def said_of(turn: Turn) -> Said | None:
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
    return Said(
        turn_id=turn.turn_id,
        at=found.occurred_at,
        person=found.user_id,
        detected=found.intent_detected,
        confidence=min(found.intent_confidence, MAX_CONFIDENCE),
        stated=stated,
    )


def changed_meanings(said: Sequence[Said], *, quorum: int) -> list[ChangedMeaning]:
    """The changed meanings in what was said, at most one of each former intent."""
    factor = _selection(said)
    first_detected: dict[str, datetime] = {}
    by_detected: defaultdict[str, list[Said]] = defaultdict(list)
    for one in said:
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


def _selection(said: Iterable[Said]) -> float:
    """How many times more often a wrong answer gets feedback than a right one, by the confidences."""
    wrong = right = expected_wrong = expected_right = 1.0
    for one in said:
        expected_right += one.confidence
        expected_wrong += 1.0 - one.confidence
        wrong += one.stated not in (None, one.detected)
        right += one.stated == one.detected
    return (wrong / expected_wrong) / (right / expected_right)


def _change(
    former: str, present: str, stated: Iterable[Said], *, factor: float, quorum: int
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


def _newest_run(stated: Sequence[Said], present: str) -> list[Said]:
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
