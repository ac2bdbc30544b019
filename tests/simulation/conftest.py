from __future__ import annotations

from collections.abc import Callable

import pytest

from karen_learner.records import LabelledText
from karen_learner.simulation import Corpus

NOUNS = {
    "balance": ["balance", "account balance", "credit left", "remaining credit"],
    "cancel": ["cancel my plan", "end the contract", "stop my subscription", "close the account"],
    "outage": ["no signal", "internet is down", "the line is dead", "nothing works"],
}
FRAMES = ["hello, {}", "{} please", "i have a question: {}", "so, {}?", "{} today", "quick one, {}"]
PLACES = ["berlin", "paris", "rome", "oslo", "madrid"]


def sentence(number: int) -> LabelledText:
    """Three distinct intents; every other text contains a place."""
    intent = sorted(NOUNS)[number % 3]
    words = FRAMES[number // 3 % len(FRAMES)].format(NOUNS[intent][number // 18 % 4])
    sentiment = "negative" if intent == "outage" else "neutral"
    place = PLACES[number % 5]
    if number % 2:
        return LabelledText(text=f"{words} {number}", intent=intent, sentiment=sentiment, entities=())
    text = f"{words} in {place} {number}"
    start = text.index(f"in {place}") + 3
    return LabelledText(
        text=text, intent=intent, sentiment=sentiment, entities=((start, start + len(place), "place"),)
    )


@pytest.fixture(scope="session")
def make_corpus() -> Callable[[int, int], Corpus]:
    def make(train: int, test: int) -> Corpus:
        sentences = [sentence(number) for number in range(train + test)]
        return Corpus(train=tuple(sentences[:train]), test=tuple(sentences[train:]))

    return make
