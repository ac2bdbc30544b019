"""The fallback: analyses of texts without a model. Every analysis is marked `degraded`.

By default it detects nothing. With `analysis.fallback = "rules"`, rules over English words and patterns
detect dialog acts, sentiment and entities. Their labels are their own, their confidences at most 0.5. For
other languages, the rules recognise little more than a question mark.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import islice

from asyncio_extras import call_in_executor

from karen_learner.analysis.analyses import surface_features
from karen_learner.records import Analysis, Entity, replace_unfit
from karen_learner.settings import Fallback

MAX_CONFIDENCE = 0.5
NEGATION_REACH = 3
"""A negator reverses the sentiment of this many following words."""
SHORT = 6
"""A text with more words is neither an affirmation nor a denial."""

LONG_TEXT_CHARS = 2_000
MAX_ENTITIES = 1_000
"""Limit against texts that consist of digits."""

_WORD = re.compile(r"[^\W\d_]+(?:[-'][^\W\d_]+)*")

# Every repetition is bounded, or nothing after it can fail: matching takes linear time.
_ENTITY = re.compile(
    r"""
    (?<!\w)(?:  # no entity begins inside a word; this check is fast
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


def _words(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


POSITIVE = _words(
    """
    amazing appreciate awesome beautiful best better brilliant clean clear cool delighted easy enjoy
    enjoyed excellent exciting fabulous fantastic fast favorite favourite fine friendly fun glad good
    grateful great happy helped helpful helps impressed impressive incredible interesting kind love
    loved lovely loves nice outstanding perfect perfectly pleasant pleased polite quick quickly reliable
    resolved satisfied smart smooth smoothly solved superb terrific thank thankful thanks thrilled
    useful well wonderful worked works wow
    """
)

NEGATIVE = _words(
    """
    angry annoyed annoying awful bad badly boring broke broken bug buggy complain complaint confused
    confusing crap crash crashed crashes crashing damaged dead difficult disappointed disappointing
    disaster disgusting dumb error errors expensive fail failed failing fails failure fault faulty
    frustrated frustrating furious garbage hate hated hates horrible hopeless impossible incompetent
    incorrect issue joke lost mess mistake nightmare outrageous overcharged pathetic poor problem
    problems ridiculous rip-off rubbish rude sad scam shame sick slow stuck stupid suck sucks terrible
    tired trash ugly unacceptable unfair unhappy unhelpful unreliable unusable upset useless waste wasted
    worse worst wrong
    """
)

NEGATORS = _words(
    """
    not no never none nobody nothing neither nor cannot without hardly barely ain't aren't can't couldn't
    didn't doesn't don't hadn't hasn't haven't isn't mustn't shouldn't wasn't weren't won't wouldn't
    """
)

INTENSIFIERS = _words(
    "absolutely completely extremely highly incredibly really so super too totally truly very"
)

GREETINGS = ("hi", "hello", "hey", "howdy", "greetings", "good morning", "good afternoon", "good evening")
GOODBYES = ("bye", "goodbye", "see you", "see ya", "good night", "farewell", "take care", "talk to you later")
THANKS = ("thanks", "thank you", "thank", "thx", "cheers", "much appreciated", "i appreciate")
AFFIRMATIONS = ("yes", "yeah", "yep", "sure", "ok", "okay", "correct", "exactly", "sounds good", "of course")
DENIALS = ("no", "nope", "nah", "no thanks", "no thank you", "not really", "don't")

COMPLAINTS = (
    "does not work", "doesn't work", "not working", "isn't working", "stopped working", "won't work",
    "no longer works", "complain", "complaint", "i am fed up", "i'm fed up", "refund", "overcharged",
    "unacceptable", "let me down",
)  # fmt: skip

REQUESTS = (
    "please", "i want", "i need", "i would like", "i'd like", "i wish to", "can you", "could you",
    "would you", "will you",
    "can i get", "can i have", "could i get", "could i have", "help me", "let me", "i have to",
)  # fmt: skip

ORDERS = _words(
    """
    activate add book buy call cancel change check close connect create delete disable download enable
    explain find fix get give help increase install list make move open order pay play read reduce remind
    remove renew repair replace report reset schedule search send set show start stop switch tell transfer
    translate turn update upgrade write
    """
)

QUESTION_OPENERS = _words(
    """
    what what's who who's whom whose which when when's where where's why why's how how's is are am was were
    does did can could would should may might
    """
)


def analyze_by_rules(text: str) -> Analysis:
    """A degraded analysis; the intent is a dialog act or None.

    Never raises for a `str`; takes time linear in its length.
    """
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


def analyze_without_model(text: str, fallback: Fallback) -> Analysis:
    """The analysis of the fallback: without labels, or by rules. Never raises for a `str`."""
    if fallback == "rules":
        return analyze_by_rules(text)
    return Analysis(
        intent=None,
        intent_confidence=0.0,
        sentiment=None,
        sentiment_confidence=0.0,
        linguistic_features=surface_features(replace_unfit(text)),
        degraded=True,
    )


async def answer_without_model(text: str, fallback: Fallback) -> Analysis:
    """`analyze_without_model` without blocking the event loop on long texts."""
    if len(text) <= LONG_TEXT_CHARS:
        return analyze_without_model(text, fallback)
    analysis: Analysis = await call_in_executor(analyze_without_model, text, fallback)
    return analysis


def sentiment_balance(words: Sequence[str]) -> float:
    """Positive minus negative words (lower case). A word counts 1.5 after an intensifier, and reversed
    after a negator."""
    balance, negated_until, factor = 0.0, -1, 1.0
    for position, word in enumerate(words):
        value = (word in POSITIVE) - (word in NEGATIVE)
        balance += factor * (-value if position <= negated_until else value)
        factor = 1.5 if word in INTENSIFIERS else 1.0
        if word in NEGATORS:
            negated_until = position + NEGATION_REACH
    return balance


def _sentiment(balance: float) -> tuple[str, float]:
    if balance == 0:
        return "neutral", 0.3
    confidence = min(MAX_CONFIDENCE, 0.3 + 0.1 * abs(balance))
    return ("positive" if balance > 0 else "negative"), confidence


def dialog_act(words: Sequence[str], *, balance: float, asks: bool) -> tuple[str | None, float]:
    """The dialog act of a text from its lower-case words, and its confidence; None if no rule matches.

    The first matching rule wins. `asks`: the text has a question mark. `balance`: see `sentiment_balance`.
    """
    if not words:
        return ("question", 0.2) if asks else (None, 0.0)
    padded = f" {' '.join(words)} "
    if _contains(padded, COMPLAINTS) or balance <= -2:
        return "complaint", 0.4
    if _contains(padded, REQUESTS) or words[0] in ORDERS:
        return "request", 0.4
    if asks or words[0] in QUESTION_OPENERS:
        return "question", MAX_CONFIDENCE if asks else 0.4
    return _courtesy(padded, short=len(words) <= SHORT)


def _courtesy(padded: str, *, short: bool) -> tuple[str | None, float]:
    if short and _opens(padded, DENIALS):
        return "deny", 0.4
    if _contains(padded, THANKS):
        return "thanks", MAX_CONFIDENCE
    if _contains(padded, GOODBYES):
        return "goodbye", 0.4
    if _opens(padded, GREETINGS):
        return "greeting", MAX_CONFIDENCE
    if short and _opens(padded, AFFIRMATIONS):
        return "affirm", 0.4
    return None, 0.0


def _contains(padded: str, phrases: Sequence[str]) -> bool:
    return any(f" {phrase} " in padded for phrase in phrases)


def _opens(padded: str, phrases: Sequence[str]) -> bool:
    return any(padded.startswith(f" {phrase} ") for phrase in phrases)


def _entities(text: str) -> Iterator[Entity]:
    for match in _ENTITY.finditer(text):
        label, words = str(match.lastgroup), match.group()
        if label == "URL":
            words = words.rstrip(".,;:!?)")  # punctuation of the sentence
        yield Entity(start=match.start(), end=match.start() + len(words), label=label, text=words)
