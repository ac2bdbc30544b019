"""Prompts for a language model, and replies to users."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from karen_learner.records import Analysis, Record

Source = Literal["llm", "spacy", "rules"]
"""The strategy that made a reply: the LLM, or a prepared answer by spaCy's analysis or by that of rules."""

NO_ANSWER = "I did not understand that. Please say it in other words."


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """The input of a language model: a user's message, and the analysis of it as context."""

    context: str
    user_text: str
    tenant_id: str = ""
    user_id: str = ""
    conversation_id: str = ""
    analysis: Analysis | None = None

    @property
    def text(self) -> str:
        """Context and message in one text."""
        return f"{self.context}\n\n{self.user_text}"

    @property
    def messages(self) -> list[dict[str, str]]:
        """Context and message in the form of chat APIs: `role` and `content`."""
        return [
            {"role": "system", "content": self.context},
            {"role": "user", "content": self.user_text},
        ]


LanguageModel = Callable[[Prompt], Awaitable[str]]
"""A host's LLM: an async callable from a prompt to an answer. Any exception is a failure."""

Answers = Mapping[str, str] | Callable[[Analysis], str]
"""Prepared answers by intent (the key `""`: without a known intent), or a function of the analysis."""


class Reply(Record):
    """A reply to a user. `turn_id` names the turn in later feedback.

    `spooled` is True if the turn was committed before the reply: it survives `kill -9`. `error` is the type
    of the LLM's error, if it failed. `seconds` passed from the message to the reply.
    """

    text: str
    turn_id: str
    conversation_id: str
    source: Source
    analysis: Analysis
    spooled: bool
    error: str | None = None
    seconds: float


def context_of(analysis: Analysis) -> str:
    """An analysis as context for a language model."""
    found = []
    if analysis.intent is not None:
        found.append(f"intent: {analysis.intent} ({analysis.intent_confidence:.0%})")
    if analysis.out_of_scope:
        found.append("the message may belong to no known intent")
    if analysis.sentiment is not None:
        found.append(f"sentiment: {analysis.sentiment} ({analysis.sentiment_confidence:.0%})")
    if analysis.entities:
        named = ", ".join(f"{one.text} ({one.label})" for one in analysis.entities[:20])
        found.append(f"entities: {named}")
    listed = "; ".join(found) or "nothing was detected"
    return f"Analysis of the user's message by a classifier, which can be wrong: {listed}."


def prepared_answer(answers: Answers, analysis: Analysis) -> str:
    """The prepared answer for an analysis. Raises the errors of a host's function."""
    if callable(answers):
        return answers(analysis)
    known = None if analysis.out_of_scope else answers.get(analysis.intent or "")
    return known if known is not None else answers.get("", NO_ANSWER)
