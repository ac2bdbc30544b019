"""The part of `accuracy.py` about sentiments in conversations: the turns of the dialogues of meld.

Ours is measured twice: with the texts alone, and in conversation, where a text is heard in the mood of what
the model itself has said of the turns before it. The gold labels of other turns are never looked at. What is
learned from has its moods from models that did not learn its dialogue, as it is where turns are collected
before they are learned from: the dialogues of `train` are divided into parts, and a model of the others hears
each. The turns of meld are those of all speakers of a scene. Intervals are of dialogues drawn anew, since the
turns of one depend on each other.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import accuracy_text
import spacy
from accuracy_text import OURS, PASSES, Contest, DataSet, Figures, Rows
from spacy.language import Language
from spacy.training import Example

from karen_learner.components.moods import NO_MOOD, Mood, doc_in_mood, mood_after, set_mood

IN_CONVERSATION = "ours, in conversation"
PARTS = 4


class Turn(NamedTuple):
    """One turn of a dialogue, as the file has it."""

    text: str
    sentiment: str
    dialogue: int
    turn: int


@dataclass(frozen=True)
class Heard:
    """What a model says of a turn, and the mood in which it heard it."""

    sentiment: str
    mood: Mood


def meld(folder: Path, options: argparse.Namespace, contest: Contest) -> Rows:
    """Sentiments of the turns of dialogues, without and with the turns before them."""
    train, val, test = (read_turns(folder / f"{name}.jsonl") for name in ("train", "val", "test"))
    data = DataSet(
        *([turn[:2] for turn in turns] for turns in (train, val, test)),
        weighted=True,
        test_groups=[turn.dialogue for turn in test],
    )

    def in_conversation(data: DataSet, *, seed: int) -> tuple[Figures, list[str]]:
        of_train, of_val = collected(train, val, seed=seed)
        nlp = trained(in_moods(train, of_train), in_moods(val, of_val), seed=seed)
        said = [heard.sentiment for heard in hear(accuracy_text.loaded(nlp)[0], test)]
        return {data.measure: data.score(said)}, said

    contest = contest.joined_by(Contest(ours={IN_CONVERSATION: in_conversation}, peers={}))
    yield from accuracy_text.compare(data, options, contest)


def read_turns(path: Path) -> list[Turn]:
    with path.open(encoding="utf-8") as lines:
        return [Turn(*(record[key] for key in Turn._fields)) for record in map(json.loads, lines)]


def collected(train: Sequence[Turn], val: Sequence[Turn], *, seed: int) -> tuple[list[Mood], list[Mood]]:
    """The moods in which models that have not learned their dialogues hear the turns of `train` and `val`."""
    dialogues = sorted({turn.dialogue for turn in train})
    random.Random(seed).shuffle(dialogues)
    of_train: dict[int, Mood] = {}
    of_val: list[Mood] = []
    for part in range(PARTS):
        held = set(dialogues[part::PARTS])
        learned = [turn for turn in train if turn.dialogue not in held]
        nlp = trained(in_moods(learned), in_moods(val), seed=seed)
        there = [position for position, turn in enumerate(train) if turn.dialogue in held]
        heard = hear(nlp, [train[position] for position in there])
        of_train.update((position, one.mood) for position, one in zip(there, heard, strict=True))
        of_val = [one.mood for one in hear(nlp, val)]
    return [of_train[position] for position in range(len(train))], of_val


def in_moods(turns: Sequence[Turn], moods: Sequence[Mood] | None = None) -> list[tuple[Turn, Mood]]:
    """Each turn in its mood; in none if none are given."""
    return list(zip(turns, moods or [NO_MOOD] * len(turns), strict=True))


def trained(train: Sequence[tuple[Turn, Mood]], val: Sequence[tuple[Turn, Mood]], *, seed: int) -> Language:
    """A model that learned from the turns of `train`, calibrated on those of `val`."""
    spacy.util.fix_random_seed(seed)
    nlp = spacy.blank("en")
    pipe: Any = nlp.add_pipe("karen_textcat", name="textcat", config={"model": OURS})
    examples = [gold(nlp, *row) for row in train]
    pipe.initialize(lambda: examples, nlp=nlp)
    accuracy_text.learn(nlp, examples, passes=PASSES, rng=random.Random(seed))
    pipe.calibrate([gold(nlp, *row) for row in val])
    return nlp


def gold(nlp: Language, turn: Turn, mood: Mood) -> Example:
    example = accuracy_text.example(nlp, turn.text, turn.sentiment)
    for doc in (example.predicted, example.reference):
        set_mood(doc, mood)
    return example


def hear(nlp: Language, turns: Sequence[Turn]) -> list[Heard]:
    """What the model says of each turn. All dialogues go on side by side, a turn at a time."""
    heard: dict[int, Heard] = {}
    moods: dict[int, Mood] = {}
    for number in sorted({turn.turn for turn in turns}):
        now = [position for position, turn in enumerate(turns) if turn.turn == number]
        before = [moods.get(turns[position].dialogue, NO_MOOD) for position in now]
        docs = (doc_in_mood(nlp, turns[at].text, mood) for at, mood in zip(now, before, strict=True))
        for position, mood, doc in zip(now, before, nlp.pipe(docs), strict=True):
            best = max(doc.cats, key=lambda label: doc.cats[label])
            heard[position] = Heard(best, mood)
            moods[turns[position].dialogue] = mood_after(mood, best, doc.cats[best])
    return [heard[position] for position in range(len(turns))]
