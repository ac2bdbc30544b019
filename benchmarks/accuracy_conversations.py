"""The part of `accuracy.py` about sentiments in conversations: the turns of the dialogues of meld.

Ours is measured twice: with the texts alone, and in conversation, where a text is heard in the mood of what
the model itself said of the turns before it. Gold labels of other turns are never looked at. What is learned
from has its moods from models that did not learn its dialogue, as it is where turns are collected before they
are learned from: the dialogues of `train` are divided into parts, and a model of the others hears each.
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
from accuracy_text import OURS, DataSet, Figures, Rows
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from karen_learner.components.moods import Mood, mood_after, set_mood

PARTS = 4
NO_MOOD: Mood = {}


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


def meld(folder: Path, options: argparse.Namespace) -> Rows:
    """Sentiments of the turns of dialogues, without and with the turns before them."""
    train, val, test = (read_turns(folder / f"{name}.jsonl") for name in ("train", "val", "test"))
    data = DataSet(*([turn[:2] for turn in turns] for turns in (train, val, test)), weighted=True)

    def in_conversation(seed: int) -> tuple[Figures, list[str]]:
        said = [heard.sentiment for heard in hear(conversant(train, val, seed=seed), test)]
        return {data.measure: data.score(said)}, said

    yield from accuracy_text.compare(data, options, **{"ours, in conversation": in_conversation})


def read_turns(path: Path) -> list[Turn]:
    with path.open(encoding="utf-8") as lines:
        return [Turn(*(record[key] for key in Turn._fields)) for record in map(json.loads, lines)]


def conversant(train: Sequence[Turn], val: Sequence[Turn], *, seed: int) -> Language:
    """A model that has learned from the turns in their moods, calibrated on `val`, saved and loaded."""
    moods: dict[int, Mood] = {}
    dialogues = sorted({turn.dialogue for turn in train})
    random.Random(seed).shuffle(dialogues)
    for part in range(PARTS):
        held = set(dialogues[part::PARTS])
        learned = [turn for turn in train if turn.dialogue not in held]
        model = calibrated(trained(learned, [NO_MOOD] * len(learned), seed=seed), val)
        there = [position for position, turn in enumerate(train) if turn.dialogue in held]
        heard = hear(model, [train[position] for position in there])
        moods.update((position, one.mood) for position, one in zip(there, heard, strict=True))
    model = trained(train, [moods[position] for position in range(len(train))], seed=seed)
    return accuracy_text.loaded(calibrated(model, val))[0]


def trained(turns: Sequence[Turn], moods: Sequence[Mood], *, seed: int) -> Language:
    spacy.util.fix_random_seed(seed)
    nlp = spacy.blank("en")
    pipe: Any = nlp.add_pipe("karen_textcat", name="textcat", config={"model": OURS})
    examples = gold(nlp, turns, moods)
    pipe.initialize(lambda: examples, nlp=nlp)
    accuracy_text.learn(nlp, examples, passes=accuracy_text.PASSES, rng=random.Random(seed))
    return nlp


def calibrated(nlp: Language, val: Sequence[Turn]) -> Language:
    """Calibrated on the turns alone, so that moods can be told, and then on the turns in their moods."""
    pipe: Any = nlp.get_pipe("textcat")
    pipe.calibrate(gold(nlp, val, [NO_MOOD] * len(val)))
    pipe.calibrate(gold(nlp, val, [heard.mood for heard in hear(nlp, val)]))
    return nlp


def gold(nlp: Language, turns: Sequence[Turn], moods: Sequence[Mood]) -> list[Example]:
    examples = [accuracy_text.example(nlp, turn.text, turn.sentiment) for turn in turns]
    for example, mood in zip(examples, moods, strict=True):
        set_mood(example.predicted, mood)
        set_mood(example.reference, mood)
    return examples


def hear(nlp: Language, turns: Sequence[Turn]) -> list[Heard]:
    """What the model says of each turn. All dialogues go on side by side, a turn at a time."""
    heard: dict[int, Heard] = {}
    moods: dict[int, Mood] = {}
    for number in sorted({turn.turn for turn in turns}):
        now = [position for position, turn in enumerate(turns) if turn.turn == number]
        before = [moods.get(turns[position].dialogue, NO_MOOD) for position in now]
        docs = [said(nlp, turns[position].text, mood) for position, mood in zip(now, before, strict=True)]
        for position, mood, doc in zip(now, before, nlp.pipe(docs), strict=True):
            best = max(doc.cats, key=lambda label: doc.cats[label])
            heard[position] = Heard(best, mood)
            moods[turns[position].dialogue] = mood_after(mood, best, doc.cats[best])
    return [heard[position] for position in range(len(turns))]


def said(nlp: Language, text: str, mood: Mood) -> Doc:
    doc = nlp.make_doc(text)
    set_mood(doc, mood)
    return doc
