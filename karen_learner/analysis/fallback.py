"""What is said of a text when no model can be asked: rules over words and patterns.

The rules are English; for other languages little more than a question mark is understood. Every answer
is marked `degraded`, and no confidence exceeds 0.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from asyncio_extras import call_in_executor

from karen_learner.analysis import lexicon
from karen_learner.analysis.features import surface_features
from karen_learner.records import Analysis, Entity, replace_unfit

MAX_CONFIDENCE = 0.5
NEGATION_REACH = 3
"""A negator turns round what follows within this many words."""
SHORT = 6
"""A text of more words than this is not merely a yes or a no."""

LONG_TEXT_CHARS = 2_000
MAX_ENTITIES = 1_000
"""No message names more; a text made of digits would."""

_WORD = re.compile(r"[^\W\d_]+(?:[-'][^\W\d_]+)*")

# Every repetition is bounded, or nothing after it can fail: no text takes more than linear time.
_ENTITY = re.compile(
    r"""
    (?<!\w)(?:  # nothing begins inside a word, and to see that is quick
    (?P<EMAIL>(?<![.+-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,5})
  | (?P<URL>(?:https?://|www\.)[^\s<>"]{1,2000})
  | (?P<MONEY>[$€£¥₹]\s?\d[\d,]{0,20}(?:\.\d{1,4})?
      | (?<![.,])\d[\d,]{0,20}(?:\.\d{1,4})?\s?
        (?:[$€£¥₹]|(?:dollars?|euros?|pounds?|cents?|bucks|usd|eur|gbp)\b))
  | (?P<DATE>\d{4}-\d{1,2}-\d{1,2}\b
      | \d{1,2}[/.]\d{1,2}[/.]\d{2,4}\b
      | (?:\d{1,2}(?:st|nd|rd|th)?\s)?
        (?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|june?|july?|aug(?:ust)?|sept?(?:ember)?
          |oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\s\d{1,4}(?:st|nd|rd|th)?\b
      | (?:today|tonight|tomorrow|yesterday|(?:mon|tues|wednes|thurs|fri|satur|sun)day)\b)
  | (?P<TIME>\d{1,2}:\d{2}(?:\s?[ap]m\b)?|\d{1,2}\s?[ap]m\b)
  | (?P<NUMBER>(?<![.,])\d+(?:[.,]\d+)*)
    )
    """,
    re.VERBOSE | re.IGNORECASE,
)


class RuleBasedFallback:
    """Analyses without a model. Never raises for a `str`, and takes time linear in its length."""

    def analyze(self, text: str) -> Analysis:
        """A degraded analysis; the intent is a dialog act or None."""
        text = replace_unfit(text)
        words = _WORD.findall(text.lower().replace("’", "'"))
        balance = sentiment_balance(words)
        intent, intent_confidence = dialog_act(words, balance=balance, asks="?" in text)
        sentiment, sentiment_confidence = _sentiment(balance)
        return Analysis(
            intent=intent,
            intent_confidence=intent_confidence,
            sentiment=sentiment,
            sentiment_confidence=sentiment_confidence,
            entities=tuple(islice(_entities(text), MAX_ENTITIES)),
            linguistic_features=surface_features(text),
            degraded=True,
        )

    async def answer(self, text: str) -> Analysis:
        """The same for callers on the event loop, which a long text would hold up."""
        if len(text) <= LONG_TEXT_CHARS:
            return self.analyze(text)
        analysis: Analysis = await call_in_executor(self.analyze, text)
        return analysis


def sentiment_balance(words: Sequence[str]) -> float:
    """Good words less bad words, lower case; intensified ones count half as much again, negated ones
    the other way round."""
    balance, negated_until, weight = 0.0, -1, 1.0
    for position, word in enumerate(words):
        value = (word in lexicon.POSITIVE) - (word in lexicon.NEGATIVE)
        balance += weight * (-value if position <= negated_until else value)
        weight = 1.5 if word in lexicon.INTENSIFIERS else 1.0
        if word in lexicon.NEGATORS:
            negated_until = position + NEGATION_REACH
    return balance


def _sentiment(balance: float) -> tuple[str, float]:
    if balance == 0:
        return "neutral", 0.3
    confidence = min(MAX_CONFIDENCE, 0.3 + 0.1 * abs(balance))
    return ("positive" if balance > 0 else "negative"), confidence


def dialog_act(words: Sequence[str], *, balance: float, asks: bool) -> tuple[str | None, float]:
    """The dialog act of a text by its lower-case words, the weightiest first; None if no rule fits.

    `asks`: the text has a question mark. `balance` is that of `sentiment_balance`.
    """
    if not words:
        return ("question", 0.2) if asks else (None, 0.0)
    said = f" {' '.join(words)} "
    if _contains(said, lexicon.COMPLAINTS) or balance <= -2:
        return "complaint", 0.4
    if _contains(said, lexicon.REQUESTS) or words[0] in lexicon.ORDERS:
        return "request", 0.4
    if asks or words[0] in lexicon.QUESTION_OPENERS:
        return "question", MAX_CONFIDENCE if asks else 0.4
    return _courtesy(said, short=len(words) <= SHORT)


def _courtesy(said: str, *, short: bool) -> tuple[str | None, float]:
    if short and _opens(said, lexicon.DENIALS):
        return "deny", 0.4
    if _contains(said, lexicon.THANKS):
        return "thanks", MAX_CONFIDENCE
    if _contains(said, lexicon.GOODBYES):
        return "goodbye", 0.4
    if _opens(said, lexicon.GREETINGS):
        return "greeting", MAX_CONFIDENCE
    if short and _opens(said, lexicon.AFFIRMATIONS):
        return "affirm", 0.4
    return None, 0.0


def _contains(said: str, phrases: Sequence[str]) -> bool:
    return any(f" {phrase} " in said for phrase in phrases)


def _opens(said: str, phrases: Sequence[str]) -> bool:
    return any(said.startswith(f" {phrase} ") for phrase in phrases)


def _entities(text: str) -> Iterator[Entity]:
    for match in _ENTITY.finditer(text):
        label, words = str(match.lastgroup), match.group()
        if label == "URL":
            words = words.rstrip(".,;:!?)")  # the sentence's, not the address's
        yield Entity(start=match.start(), end=match.start() + len(words), label=label, text=words)
