"""Prompt-first sessions: a model proposes labels and paraphrases as one contributor of measured worth."""

from __future__ import annotations

import json

import pytest

from karen_learner.errors import InvalidInput
from karen_learner.orchestrator import TrainingSession
from tests.conftest import ACME, PHRASES, WORDS, gold_examples

LABELS = {"balance": "money in the account", "travel": "flights", "greeting": ""}
EXAMPLES = [{"text": one["text"], "intent": one["intent"]} for one in gold_examples()]


def honest(text: str) -> str:
    return next(
        label for label, phrase in PHRASES.items() if text.startswith(phrase.split("{}")[0].strip()[:6])
    )


class Model:
    """Labels texts by a function, and counts its prompts."""

    def __init__(self, label=honest, wrap="{}"):
        self.label = label
        self.wrap = wrap
        self.prompts = []

    async def __call__(self, prompt):
        self.prompts.append(prompt)
        items = json.loads(prompt.user_text)
        if isinstance(items, str):
            return self.wrap.format(json.dumps([f"{items} please", items, 7, " "]))
        found = [{"number": one["number"], "label": self.label(one["text"])} for one in items]
        return self.wrap.format(json.dumps(found))


def session(learner, model, **options):
    options = {"goal": "tell balances from travels", "labels": LABELS, "examples": EXAMPLES, **options}
    return TrainingSession(learner, ACME, model, **options)


TEXTS = [f"what is my balance for {word}" for word in WORDS]


async def test_proposals_are_feedback_of_one_contributor(acme):
    model = Model(wrap="Of course:\n```json\n{}\n```")
    report = await session(acme, model, name="small").propose_labels([*TEXTS, TEXTS[0], " "])
    assert (report.contributor, report.stored, report.refused) == ("llm:small", len(TEXTS), None)
    assert (report.checked, report.agreement) == (22, 1.0)
    assert report.labels == {"balance": len(TEXTS)}
    assert report.unusable == 2
    counts = await acme.store.counts(ACME)
    assert counts.with_feedback == len(TEXTS)
    await session(acme, Model(), name="small").propose_labels(TEXTS)
    assert (await acme.store.counts(ACME)).turns == counts.turns
    assert "tell balances from travels" in model.prompts[0].context
    assert "- balance: money in the account" in model.prompts[0].context


async def test_hidden_checks_are_not_shown_with_their_labels(acme):
    model = Model()
    made = session(acme, model)
    await made.propose_labels(TEXTS)
    hidden = {text for text, _ in made._hidden()}
    assert hidden
    assert not any(repr(text) in model.prompts[0].context for text in hidden)
    sent = {one["text"] for prompt in model.prompts for one in json.loads(prompt.user_text)}
    assert hidden <= sent
    assert not hidden & {one.user_text for one in await acme.store.newest_turns(ACME, limit=100)}


async def test_a_model_that_lies_stores_nothing(acme):
    report = await session(acme, Model(label=lambda _: "travel")).propose_labels(TEXTS)
    assert report.stored == 0
    assert "of 22 known labels" in report.refused
    assert (await acme.store.counts(ACME)).turns == 0


@pytest.mark.parametrize(
    "answer", ["", "no list", "[", '[{"number": "0"}, 3, {"label": "balance"}]', "[" * 5000]
)
async def test_unusable_answers_are_counted(acme, answer):
    async def model(_prompt):
        return answer

    report = await session(acme, model, examples=()).propose_labels(TEXTS)
    assert (report.stored, report.unusable, report.agreement) == (0, len(TEXTS), None)


async def test_unknown_labels_are_unusable(acme):
    report = await session(acme, Model(label=lambda _: "<script>"), examples=()).propose_labels(TEXTS)
    assert (report.stored, report.unusable) == (0, len(TEXTS))


async def test_paraphrases_have_the_labels_of_their_examples(acme):
    report = await session(acme, Model(), examples=EXAMPLES[:4]).propose_paraphrases(per_example=2)
    assert (report.asked, report.stored) == (8, 4)
    turns = await acme.store.newest_turns(ACME, limit=10)
    assert {turn.feedback.corrected_intent for turn in turns} == {"balance"}
    assert {turn.metadata.user_id for turn in turns} == {"llm:model"}


async def test_the_gates_decide_about_proposals(acme):
    made = session(acme, Model())
    await made.propose_labels(TEXTS)
    result = await made.learn()
    assert result.status in ("deployed", "rejected")
    assert result.verdict is not None
    assert result.reason.startswith("session: tell balances")


@pytest.mark.parametrize(
    "options",
    [{"labels": "balance"}, {"labels": []}, {"examples": [{"text": "x", "intent": "unknown"}]}, {"name": ""}],
)
async def test_unusable_sessions_are_refused(acme, options):
    with pytest.raises(InvalidInput):
        session(acme, Model(), **options)
