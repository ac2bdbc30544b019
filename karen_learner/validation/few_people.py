"""A gain on the corrections of few people. Pure.

A test over people cannot decide if they are few: all n people with a gain have a p-value of `2**-n`. So these
people count as all people of the tenant, and their groups of near-duplicates are the sample. One person alone
shows no gain, and labels must be more than opinions. There are two cases:

- *Corroborated* corrections, if there are at least MIN_CORROBORATED: several people give the same label to
  each text. The p-value is binomial, against the share of texts that a candidate without a gain gets right by
  chance (`ALLOWANCE`). These people must agree on the texts that they share (sign test at 5 %): random labels
  do not.
- Other corrections: the shadow that judges a text has learned no text of its person. So it can only be right
  because of gold and of other people. More than half of the texts must become right, for two people at least:
  the p-value is the second smallest one of a person, times the number of the others (partial conjunction:
  Benjamini and Heller, *Biometrics* 64, 2008).

A correction of a sure answer of the champion (`SURE`) contradicts what it has learned from gold and from
others. Unless as many people as `learning.meaning_quorum` say so, a candidate that follows it loses. So two
accounts of one person, which agree on wrong labels, change no answer that gold supports. They can still show
a gain where gold has no texts, and with less gold than `MIN_GOLD`, where confidences mean little.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from karen_learner.curation.folds import is_corroborated
from karen_learner.metrics import Interval, binomial_tail
from karen_learner.records import UNKNOWN_USER, Example, Task
from karen_learner.validation.comparison import ALLOWANCE, changes, sign_test
from karen_learner.validation.evidence import Evidence, labels_of

FEW_PEOPLE = 10
"""From this number of people, a test over people can decide."""
AGREEMENT_LEVEL = 0.05
MIN_CORROBORATED = 5
"""With fewer corroborated groups, the sign test of the agreement cannot reach its level."""
SURE = 0.95
"""The probability of its answer from which the champion is sure."""
MIN_GOLD = 40
"""Number of judged gold texts from which the scale of probabilities is known."""
CHANCE = 0.5
"""The share of corrections of one person that must become right for evidence of a gain."""


@dataclass(frozen=True, kw_only=True)
class FewPeople:
    """The gain on `texts` groups of corrected texts of `people` people, in -1..1, with its p-value."""

    texts: int
    people: int
    gain: float
    p_better: float
    allowance: float
    interval: Interval | None = None


@dataclass(frozen=True, kw_only=True)
class _Correction:
    """A group of near-duplicates: by how much it is answered better, and its people."""

    change: float
    people: frozenset[str]


def compare_few_people(evidence: Evidence, task: Task) -> FewPeople | None:
    """The comparison on the corrections of few people; None for many people, or for none."""
    if evidence.champion is None:
        return None
    after, before = evidence.candidate.by_task[task], evidence.champion.by_task[task]
    change = np.sign(changes(after, before)).tolist()
    if before.confidences is not None and evidence.gold[before.positions].sum() >= MIN_GOLD:
        sure = zip(before.positions.tolist(), before.confidences > SURE, strict=True)
        contested = [is_sure and _is_of_few(evidence, at) for at, is_sure in sure]
        change = [-abs(by) if lost else by for by, lost in zip(change, contested, strict=True)]
    judged = [
        (evidence.examples[at], evidence.people[at], by)
        for at, by in zip(after.positions, change, strict=True)
        if _is_taught_correction(evidence, evidence.examples[at], task)
    ]
    people = {person for _, owners, _ in judged for person in owners}
    if not 0 < len(people) < FEW_PEOPLE:
        return None
    alike = _groups(one for one in judged if is_corroborated(one[0], one[1]))
    is_enough = len(alike) >= MIN_CORROBORATED
    found = alike if is_enough else _groups(judged)
    p_value = _p_corroborated(evidence, found) if is_enough else _p_of_two_people(found, people)
    return FewPeople(
        texts=len(found),
        people=len(people),
        gain=sum(one.change for one in found) / len(found),
        p_better=p_value,
        allowance=ALLOWANCE if is_enough else CHANCE,
    )


def _is_taught_correction(evidence: Evidence, example: Example, task: Task) -> bool:
    labels = labels_of(example, task)
    return example.source == "correction" and any((task, label) in evidence.taught_labels for label in labels)


def _is_of_few(evidence: Evidence, position: int) -> bool:
    """Whether fewer known people than the quorum have labelled a judged text."""
    return sum(not one.startswith(UNKNOWN_USER) for one in evidence.people[position]) < evidence.quorum


def _groups(judged: Iterable[tuple[Example, Sequence[str], float]]) -> list[_Correction]:
    """The groups of near-duplicates of the judged texts."""
    found: dict[str, _Correction] = {}
    for example, people, change in judged:
        known = found.get(example.group, _Correction(change=0.0, people=frozenset()))
        found[example.group] = _Correction(change=known.change + change, people=known.people | {*people})
    return [_Correction(change=float(np.sign(one.change)), people=one.people) for one in found.values()]


def _p_corroborated(evidence: Evidence, found: Sequence[_Correction]) -> float:
    """The p-value on corroborated texts; 1 if their people do not agree on the texts that they share."""
    if sign_test(len(found), evidence.disagreements) > AGREEMENT_LEVEL:
        return 1.0
    return binomial_tail(_successes(found), len(found), ALLOWANCE)


def _p_of_two_people(found: Sequence[_Correction], people: Iterable[str]) -> float:
    """The p-value against "at most one person has a gain"; 1 for one person."""
    by_person = [[one for one in found if person in one.people] for person in people]
    ordered = sorted(binomial_tail(_successes(own), len(own), CHANCE) for own in by_person)
    return min(1.0, ordered[1] * (len(ordered) - 1)) if len(ordered) > 1 else 1.0


def _successes(found: Sequence[_Correction]) -> int:
    return max(0, round(sum(one.change for one in found)))
