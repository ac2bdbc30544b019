"""Resolution of the contributions to one text: the labels of its example.

The rule is applied to each task alone:

1. Gold wins over feedback; of several gold labels the newest wins.
2. A person counts once, with the newest label. A rating does not replace the person's correction.
3. The label of more people wins; then a label with a correction over one with ratings only; then a quality
   that is higher by 0.1. Otherwise the task is undecided and has no label. A text is a conflict if all its
   tasks are undecided.
4. A quorum of people sets a gold label aside: their corrections agree and are newer than the gold label. They
   also win by step 3 over all other feedback that is newer than it.

The result depends on the order of one person's contributions, but not on the order of people.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from karen_learner.records import (
    CATEGORY_TASKS,
    DISCARDED,
    ROLLED_BACK,
    TASKS,
    Contribution,
    Example,
    ExampleState,
    LabelledText,
    Source,
    Task,
)
from karen_learner.text_identity import normalised

NEEDS_NEWS = ("harmful", ROLLED_BACK, DISCARDED)
"""Reasons of quarantine that the same labels of the same people do not end."""
CLEARLY_BETTER = 0.1
ROUNDING = 1e-9


@dataclass(frozen=True)
class Side:
    """The people with the same label of one task, each with one contribution."""

    task: Task
    members: tuple[Contribution, ...]

    @property
    def people(self) -> int:
        return len(self.members)

    @property
    def is_gold(self) -> bool:
        return self.members[0].is_gold

    @property
    def corrections(self) -> int:
        """The number of people who gave the label as a correction."""
        return sum(member.source == "correction" for member in self.members)

    @property
    def source(self) -> Source:
        if self.is_gold:
            return self.members[0].source
        return "correction" if self.corrections else "rating"

    @property
    def quality(self) -> float:
        return agreed_quality(max(member.quality for member in self.members), self.people - 1)

    def __str__(self) -> str:
        people = f"{self.people} {'user' if self.people == 1 else 'users'}"
        return f"{self.task} {_described(self.members[0], self.task)} ({people})"


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """The sides that give a text its labels, by task, and its state: pending, conflict or quarantined.

    Of gold sides, the newest is the last one.
    """

    sides: Mapping[Task, Side]
    state: ExampleState = "pending"
    reason: str | None = None

    def annotated(self, example: Example, **changes: Any) -> Example:
        """The example with these labels, their source and trust, and the text of one contributor.

        `users` and `quality` are the smallest ones of its labels, without gold labels if there are others.
        """
        origin = self._origin(example)
        trusted = [side for side in self.sides.values() if not side.is_gold] or list(self.sides.values())
        values: dict[str, Any] = {
            **{task: self._label(task) for task in CATEGORY_TASKS},
            "text": origin.text,
            "entities": origin.entities if "entities" in self.sides else None,
            "unannotated": origin.unannotated if "entities" in self.sides else (),
            "user_id": origin.user_id,
            "turn_id": origin.turn_id,
            "source": self._source(),
            "quality": min(side.quality for side in trusted),
            "users": min(side.people for side in trusted),
        }
        annotated = example.model_copy(update=values | changes)
        return annotated.model_copy(update={"stratum": stratum(annotated)})

    def _label(self, task: Task) -> str | None:
        label: str | None = getattr(self.sides[task].members[0], task) if task in self.sides else None
        return label

    def _source(self) -> Source:
        """The weakest source of the labels; of gold, the source of the newest label."""
        sources = [side.source for side in self.sides.values()]
        if "rating" in sources:
            return "rating"
        if "correction" in sources:
            return "correction"
        return sources[-1]

    def _origin(self, example: Example) -> Contribution:
        """The contribution with the text of the example: the present one if possible, else the first.

        Entities keep the text that their offsets refer to.
        """
        sides = [self.sides["entities"]] if "entities" in self.sides else list(self.sides.values())
        members = [member for side in sides for member in side.members]
        present = (example.text, example.turn_id, example.user_id)
        same = [each for each in members if (each.text, each.turn_id, each.user_id) == present]
        return (same or sorted(members, key=_order))[0]


def resolve(contributions: Sequence[Contribution], *, quorum: int) -> Resolved | None:
    """Resolve the contributions to one text, in order of curation; None without any.

    `quorum` is the number of people that sets gold aside. If no contribution can be learned, the newest one
    is quarantined.
    """
    usable = [each for each in contributions if each.reason is None]
    if not usable:
        return _quarantined(contributions[-1]) if contributions else None
    says = {task: _says([each for each in usable if not each.is_gold], task) for task in TASKS}
    if gold := _newest_gold(usable):
        return _with_gold(gold, says, quorum)
    return _decided({task: _sides(says[task], task) for task in TASKS if says[task]})


def with_contributions(example: Example, left: Sequence[Contribution]) -> Example:
    """The example after contributions to its text were withdrawn, all but those that are `left`.

    Without any, it loses its content. Gold that was set aside stays so while somebody contradicts it.
    """
    resolved = resolve(left, quorum=sys.maxsize if example.is_gold else 1)
    if resolved is None:
        return example.without_content()
    if is_excluded(example):
        return resolved.annotated(example)
    return settled(example, resolved)


def settled(example: Example, resolved: Resolved) -> Example:
    """The example with its resolved labels: `pending` for new labels, else in its present state."""
    after = resolved.annotated(example, reason=resolved.reason)
    is_same = example.state in ("pending", "learned") and same_labels(example, after)
    if is_same and resolved.state == "pending":
        return after
    changes: dict[str, Any] = {"state": resolved.state}
    if resolved.state == "pending":
        changes["rejections"] = 0
    return after.model_copy(update=changes)


def is_excluded(example: Example) -> bool:
    """Whether the example is quarantined until there is other evidence about its text."""
    return example.state == "quarantined" and example.reason in NEEDS_NEWS


def is_news(example: Example, resolved: Resolved, known: Iterable[Contribution]) -> bool:
    """Whether labels differ from those of an excluded example, or come from people who are not `known`."""
    people = {each.person for each in known}
    supporters = {each.person for side in resolved.sides.values() for each in side.members}
    return not same_labels(example, resolved.annotated(example)) or not supporters <= people


def _quarantined(contribution: Contribution) -> Resolved:
    sides = {task: Side(task, (contribution,)) for task in contribution.tasks}
    return Resolved(sides=sides, state="quarantined", reason=contribution.reason)


def _says(feedback: Iterable[Contribution], task: Task) -> list[Contribution]:
    """The contribution of each person that counts for the task."""
    newest: dict[object, Contribution] = {}
    for number, each in enumerate(feedback):
        if getattr(each, task) is None:
            continue
        person = each.person or number
        former = newest.get(person)
        if former is None or each.source == "correction" or former.source == "rating":
            newest[person] = each
    return list(newest.values())


def _sides(says: Iterable[Contribution], task: Task) -> list[Side]:
    """The sides of a task, strongest first. The order does not depend on that of the contributions."""
    members: dict[Any, list[Contribution]] = defaultdict(list)
    for each in says:
        members[label_of(each, task)].append(each)
    sides = {label: Side(task, tuple(several)) for label, several in members.items()}
    order = sorted(sides, key=repr)
    order.sort(key=lambda label: _strength(sides[label]), reverse=True)
    return [sides[label] for label in order]


def _strength(side: Side) -> tuple[int, bool, float]:
    return side.people, side.corrections > 0, side.quality


def _winner(sides: Sequence[Side]) -> Side | None:
    """The strongest side, unless the next one is about as strong."""
    if len(sides) < 2:
        return sides[0] if sides else None
    first, second = sides[:2]
    if _strength(first)[:2] != _strength(second)[:2]:
        return first
    return first if first.quality - second.quality >= CLEARLY_BETTER - ROUNDING else None


def _decided(sides: Mapping[Task, Sequence[Side]]) -> Resolved:
    winners = {task: _winner(several) for task, several in sides.items()}
    decided = {task: winner for task, winner in winners.items() if winner is not None}
    if decided:
        return Resolved(sides=decided)
    first, second = next(iter(sides.values()))[:2]
    strongest = {task: several[0] for task, several in sides.items()}
    return Resolved(sides=strongest, state="conflict", reason=f"{first} against {second}")


def _newest_gold(contributions: Iterable[Contribution]) -> dict[Task, Contribution]:
    """The newest gold of each task; the newest of all is the last one."""
    newest: dict[Task, Contribution] = {}
    for each in contributions:
        for task in each.tasks if each.is_gold else ():
            newest.pop(task, None)
            newest[task] = each
    return newest


def _with_gold(
    gold: Mapping[Task, Contribution], says: Mapping[Task, Sequence[Contribution]], quorum: int
) -> Resolved:
    sides = {task: Side(task, (each,)) for task, each in gold.items()}
    notes: list[str] = []
    for task, each in gold.items():
        newer = [say for say in says[task] if say.occurred_at > each.occurred_at]
        winner = _winner(_sides(newer, task))
        if winner is None or winner.corrections < quorum:
            continue
        if label_of(winner.members[0], task) != label_of(each, task):
            notes.append(f"gold {task} {_described(each, task)} set aside by {winner.people} users")
            sides[task] = winner
    return Resolved(sides=sides, reason="; ".join(notes) or None)


# Labels --------------------------------------------------------------------------------------


def label_of(labelled: LabelledText, task: Task) -> Any:
    """The label in a form that is independent of spaces and punctuation around the text."""
    if task != "entities":
        return getattr(labelled, task)
    if labelled.entities is None:
        return None
    return tuple(sorted((normalised(labelled.text[s.start : s.end]), s.label) for s in labelled.entities))


def disputed(one: LabelledText, other: LabelledText) -> tuple[Task, ...]:
    """The tasks for which both have a label and the labels differ."""
    both = [task for task in one.tasks if task in other.tasks]
    return tuple(task for task in both if label_of(one, task) != label_of(other, task))


def same_labels(one: LabelledText, other: LabelledText) -> bool:
    """Whether both have the same labels for the same tasks."""
    return one.tasks == other.tasks and not disputed(one, other)


def task_labels(labelled: LabelledText) -> Iterator[tuple[Task, str]]:
    """Each label of a text with its task; an entity label once for each span."""
    if labelled.intent is not None:
        yield "intent", labelled.intent
    if labelled.sentiment is not None:
        yield "sentiment", labelled.sentiment
    for span in labelled.entities or ():
        yield "entities", span.label


def stratum(labelled: LabelledText) -> str:
    """The label for balanced selections: the intent, else the sentiment, else the most frequent
    entity label. Of equally frequent ones, it is the first in alphabetical order."""
    if labelled.intent is not None:
        return labelled.intent
    if labelled.sentiment is not None:
        return f"sentiment:{labelled.sentiment}"
    counted = Counter(span.label for span in labelled.entities or ())
    most = min(counted, key=lambda label: (-counted[label], label), default="none")
    return f"entities:{most}"


def agreed_quality(quality: float, further_people: int) -> float:
    """Quality after further people agree: 1 - (1 - quality) / 2 ** further_people."""
    return 1.0 - (1.0 - quality) / 2.0**further_people


def _described(labelled: LabelledText, task: Task) -> str:
    if task != "entities":
        return repr(getattr(labelled, task))
    return "[" + ", ".join(f"{s.label} {s.start}-{s.end}" for s in labelled.entities or ()) + "]"


def _order(contribution: Contribution) -> tuple[bool, int]:
    """Stored contributions come first, in order of `seq`."""
    return contribution.seq is None, contribution.seq or 0
