"""Checks of labelled texts before they are learned or used for an evaluation. Pure functions.

Two texts are the same if they have one `text_key`, and near-duplicates if they have one `group_key`.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

from karen_learner.curation.alignment import TokenAligner
from karen_learner.curation.contradictions import Statement, contradiction, stated_labels
from karen_learner.records import CATEGORY_TASKS, TASKS, LabelledText, Task
from karen_learner.records.data_reports import DataFinding, FindingKind
from karen_learner.records.offsets import span_problem
from karen_learner.resolution import task_labels
from karen_learner.text_identity import group_key, text_key

MAX_COMPARED_LABELS = 500
"""With more labels, only labels that differ in case and separators are similar."""
MIN_MISSPELT_CHARS = 5
MAX_NAMED_LINES = 5
MAX_NAMED_LABELS = 3
_SEPARATORS = re.compile(r"[\W_]+")
_DIGITS = re.compile(r"\d+")


class NumberedText(NamedTuple):
    """A labelled text and its line."""

    line: int
    labelled: LabelledText


Texts = Sequence[NumberedText]
LabelCounts = Mapping[Task, Mapping[str, int]]


@dataclass(frozen=True)
class Leaks:
    """Test texts that training reveals, and labels of the test that no training text has.

    `same` and `near` are pairs of a test line and a training line. `unknown` counts test texts by label.
    """

    texts: int
    same: tuple[tuple[int, int], ...] = ()
    near: tuple[tuple[int, int], ...] = ()
    unknown: LabelCounts = field(default_factory=dict)

    def sentences(self) -> list[str]:
        """One sentence for each kind of leak that was found."""
        found = []
        if self.same:
            found.append(f"{len(self.same)} of {self.texts} test texts are also training texts (duplicates)")
        if self.near:
            found.append(f"{len(self.near)} of {self.texts} test texts are near-duplicates of training texts")
        for task, counts in self.unknown.items():
            named = ", ".join(f"{label!r} ({_texts(count)})" for label, count in sorted(counts.items())[:10])
            more = f" and {len(counts) - 10} more" if len(counts) > 10 else ""
            found.append(f"no training text has these labels of {task} in the test texts: {named}{more}")
        return found


def leaks(train: Texts, test: Texts) -> Leaks:
    """Test texts that are training texts or near-duplicates of them, and labels that nothing trains."""
    same, near = _first_lines(train, text_key), _first_lines(train, group_key)
    keyed = [(one.line, text_key(one.labelled.text), group_key(one.labelled.text)) for one in test]
    trained = label_counts(train)
    unknown = {
        task: {label: count for label, count in counts.items() if label not in trained.get(task, {})}
        for task, counts in label_counts(test).items()
    }
    return Leaks(
        texts=len(test),
        same=tuple((line, same[key]) for line, key, _ in keyed if key in same),
        near=tuple((line, near[group]) for line, key, group in keyed if key not in same and group in near),
        unknown={task: counts for task, counts in unknown.items() if counts},
    )


def numbered(texts: Iterable[LabelledText]) -> list[NumberedText]:
    """Texts with their positions, from 1."""
    return [NumberedText(line, labelled) for line, labelled in enumerate(texts, start=1)]


def label_counts(texts: Texts) -> dict[Task, Counter[str]]:
    """The number of texts of each label."""
    counts: dict[Task, Counter[str]] = {task: Counter() for task in TASKS}
    for _, labelled in texts:
        for task, label in set(task_labels(labelled)):
            counts[task][label] += 1
    return {task: counted for task, counted in counts.items() if counted}


def findings(
    texts: Texts,
    *,
    aligner: TokenAligner,
    test: Texts = (),
    stored: Mapping[str, Sequence[LabelledText]] | None = None,
    known_labels: LabelCounts | None = None,
    rare_below: int = 5,
) -> Iterator[DataFinding]:
    """All findings in labelled texts, in no order.

    `stored` is stored gold by `text_key`, `known_labels` are the labels that it declares. A label with fewer
    than `rare_below` texts is rare.
    """
    counts = label_counts(texts)
    contradicting = list(_contradictions(texts, stored or {}))
    left_out = {one.lines[-1] for one in contradicting}
    yield from contradicting
    yield from _misaligned(texts, aligner)
    yield from _collisions(counts)
    yield from _rare_labels(counts, rare_below)
    yield from similar_labels(counts, known_labels or {})
    yield from _duplicates([one for one in texts if one.line not in left_out])
    if test:
        yield from _leak_findings(leaks(texts, test))


def _contradictions(texts: Texts, stored: Mapping[str, Sequence[LabelledText]]) -> Iterator[DataFinding]:
    stated: dict[str, dict[Task, Statement]] = {}
    for line, labelled in texts:
        key, labels = text_key(labelled.text), stated_labels(labelled)
        earlier = stated.setdefault(key, {})
        for gold in stored.get(key, ()):
            for task, label in stated_labels(gold).items():
                earlier.setdefault(task, Statement(label, None))
        if problem := contradiction(labels, earlier):
            lines = {one.line for one in earlier.values() if one.line is not None}
            yield DataFinding(kind="contradiction", message=problem, lines=(*sorted(lines), line))
        else:
            for task, label in labels.items():
                earlier.setdefault(task, Statement(label, line))


def _misaligned(texts: Texts, aligner: TokenAligner) -> Iterator[DataFinding]:
    for line, (text, spans) in ((line, (one.text, one.entities or ())) for line, one in texts):
        if problem := span_problem(text, spans) or aligner.problem(text, spans):
            yield DataFinding(kind="misaligned", message=problem, lines=(line,))


def _collisions(counts: LabelCounts) -> Iterator[DataFinding]:
    for label in sorted(set(counts.get("intent", ())) & set(counts.get("sentiment", ()))):
        yield DataFinding(
            kind="collision", message=f"{label!r} is an intent and a sentiment: rename one of them"
        )


def _rare_labels(counts: LabelCounts, rare_below: int) -> Iterator[DataFinding]:
    for task, counted in counts.items():
        for label, count in sorted(counted.items(), key=lambda item: (item[1], item[0])):
            if count < rare_below:
                yield DataFinding(kind="rare_label", message=f"{task} {label!r} has {_texts(count)}")


def similar_labels(counts: LabelCounts, known: LabelCounts) -> Iterator[DataFinding]:
    """Labels of texts that resemble each other or `known` ones."""
    for task, counted in counts.items():
        names = sorted({*counted, *known.get(task, ())})
        for first, second in (
            combinations(names, 2) if len(names) <= MAX_COMPARED_LABELS else _same_form(names)
        ):
            if (first in counted or second in counted) and are_similar(first, second):
                both = " and ".join(
                    f"{name!r} ({_texts(counted[name])})" if name in counted else f"{name!r} (stored)"
                    for name in (first, second)
                )
                yield DataFinding(kind="similar_labels", message=f"labels of {task} look the same: {both}")


def _same_form(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    forms = defaultdict(list)
    for name in names:
        forms[_form(name)].append(name)
    for alike in forms.values():
        yield from combinations(alike, 2)


def are_similar(first: str, second: str) -> bool:
    """Whether two labels differ in case, separators or one letter alone. Numbers make a difference."""
    one, two = sorted((_form(first), _form(second)), key=len)
    if one == two:
        return True
    if len(one) < MIN_MISSPELT_CHARS or _DIGITS.findall(one) != _DIGITS.findall(two):
        return False
    return _is_one_edit(one, two)


def _form(label: str) -> str:
    return _SEPARATORS.sub("", unicodedata.normalize("NFKC", label).casefold())


def _is_one_edit(shorter: str, longer: str) -> bool:
    """Whether one letter was inserted or replaced, or two neighbours were swapped."""
    if len(longer) - len(shorter) > 1:
        return False
    at = next((i for i, (a, b) in enumerate(zip(shorter, longer, strict=False)) if a != b), len(shorter))
    if len(longer) > len(shorter):
        return shorter[at:] == longer[at + 1 :]
    swapped = shorter[at + 1 : at + 2] + shorter[at : at + 1] + shorter[at + 2 :]
    return shorter[at + 1 :] == longer[at + 1 :] or swapped == longer[at:]


def _duplicates(texts: Texts) -> Iterator[DataFinding]:
    """Repeated texts, and near-duplicates with equal and with different labels."""
    groups: dict[str, dict[str, list[NumberedText]]] = defaultdict(lambda: defaultdict(list))
    for one in texts:
        groups[group_key(one.labelled.text)][text_key(one.labelled.text)].append(one)
    for several in groups.values():
        for same in several.values():
            if len(same) > 1:
                yield _lines_finding("duplicate", "have the same text", [one.line for one in same])
        if len(several) > 1:
            first = [same[0] for same in several.values()]
            lines = [one.line for one in first]
            if disputed := _disputed(first):
                yield _lines_finding("near_contradiction", f"are near-duplicates with {disputed}", lines)
            else:
                yield _lines_finding("near_duplicate", "are near-duplicates", lines)


def _disputed(texts: Texts) -> str | None:
    """The first category task in which near-duplicates differ, with their labels."""
    for task in CATEGORY_TASKS:
        labels = list(dict.fromkeys(getattr(labelled, task) for _, labelled in texts))
        known = [repr(label) for label in labels if label is not None]
        if len(known) > 1:
            more = ", ..." if len(known) > MAX_NAMED_LABELS else ""
            return f"different {task}: {', '.join(known[:MAX_NAMED_LABELS])}{more}"
    return None


def _leak_findings(found: Leaks) -> Iterator[DataFinding]:
    for kind, verb, pairs in (
        ("leak", "is also the text of", found.same),
        ("near_leak", "is a near-duplicate of", found.near),
    ):
        for test_line, line in pairs:
            message = f"test line {test_line} {verb} line {line}"
            yield DataFinding(kind=kind, message=message, lines=(line,), test_lines=(test_line,))
    for task, counts in found.unknown.items():
        for label, count in sorted(counts.items()):
            message = f"{task} {label!r} of {_texts(count)} in the test is in no training text"
            yield DataFinding(kind="unknown_test_label", message=message)


def _lines_finding(kind: FindingKind, predicate: str, lines: Sequence[int]) -> DataFinding:
    shown = ", ".join(map(str, lines[:MAX_NAMED_LINES]))
    more = f" and {len(lines) - MAX_NAMED_LINES} more" if len(lines) > MAX_NAMED_LINES else ""
    return DataFinding(kind=kind, message=f"lines {shown}{more} {predicate}", lines=tuple(lines))


def _first_lines(texts: Texts, key_of: Callable[[str], str]) -> dict[str, int]:
    """The first line of each text, by key."""
    found: dict[str, int] = {}
    for line, labelled in texts:
        found.setdefault(key_of(labelled.text), line)
    return found


def _texts(count: int) -> str:
    return f"{count} text" if count == 1 else f"{count} texts"
